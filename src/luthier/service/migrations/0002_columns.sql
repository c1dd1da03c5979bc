-- How the columns of a file are read: our names for its own, as the setting `columns`.
ALTER TABLE files ADD COLUMN columns TEXT CHECK (columns IS NULL OR json_valid(columns));
