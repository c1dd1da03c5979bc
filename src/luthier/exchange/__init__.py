"""Files of other tools, written from a merged model's folder: GGUF for llama.cpp and what builds on it."""
