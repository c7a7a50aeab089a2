"""What the compiler takes at most, so that its time and memory stay in proportion to the files. Android's own files
stay far below: the largest has some 60 kB, names of 60 characters, packages of 6 parts and types nested 3 deep.
"""

FILE_SIZE = 1 << 20
"""Bytes in one .aidl file."""
FILE_TOKENS = 200_000
"""Tokens in one .aidl file; each takes some 200 bytes of memory."""
NUMBER_LENGTH = 128
"""Characters of a number as written. Reading one takes time that grows with the square of its length."""
NAME_LENGTH = 200
"""Characters of an identifier; a type's is also a file's name."""
QUALIFIED_LENGTH = 1000
"""Characters of a name with dots, and of a type's full name."""
NAME_PARTS = 64
"""Identifiers in a name with dots."""
DEPTH = 40
"""How deep brackets, generics and nested types may go."""
DIMENSIONS = 16
"""Of one array type."""
ANNOTATIONS = 64
"""In front of one declaration, member or type."""
CONSTANT_CHAIN = 100
"""Constants that lead to one another."""
COMPUTING_DEPTH = 120
"""Operators, arrays and constants inside each other while a value is computed."""
HOLDING_CHAIN = 64
"""Types whose default value holds one of the next."""
STRING_LENGTH = 65535
"""Characters of a constant string: as much as a Java class file can hold."""
EXPANSION = 64 << 20
"""Characters in one run that strings, arrays and default values grow to from constants and types used repeatedly."""
ERRORS = 50
"""Told in one run; what follows so many is noise."""
SHOWN = 60
"""Characters of a file's text in a message."""
CANDIDATES = 500
"""Names that a misspelt one is compared with."""
ROOTS = 1000
"""Directories in which imports are looked for."""
