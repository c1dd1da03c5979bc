"""The formats rows are written in: `FORMATS` lists them, `parse` reads them."""

from luthier.data.formats.detect import FORMATS
from luthier.data.formats.format import Format
from luthier.data.formats.parse import Parsed, RowReader, parse

__all__ = ["FORMATS", "Format", "Parsed", "RowReader", "parse"]
