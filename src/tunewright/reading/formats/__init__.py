"""One reader a file, found by the formats it names; a new reader is one new file here.

FORMATS = {"csv": (".csv",), "tsv": (".tsv", ".tab")}                 format -> the suffixes it is known by
READS_KEYS = {"delimiter", "header"}                                       keys of the data section that its reader uses
def make_source(path, name, format, options) -> Source                what `open_source` calls
"""
