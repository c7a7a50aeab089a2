"""Tokens to the syntax tree, by recursive descent. After an error it goes on with the next member."""

from . import tree
from .cursor import Cursor, Unreadable
from .errors import Diagnostics
from .lexer import Kind, Token
from .limits import ANNOTATIONS, DIMENSIONS
from .source import Source, Span

_PRECEDENCE = {
    operator: level
    for level, operators in enumerate(
        ("||", "&&", "|", "^", "&", "== !=", "< > <= >=", "<< >>", "+ -", "* / %")
    )
    for operator in operators.split()
}
_HEADERS = ("cpp_header", "ndk_header", "rust_type")
_TYPE_WORDS = ("parcelable", "union", "enum", "interface")


class _Members:
    """What stands between the braces of a declaration."""

    def __init__(self) -> None:
        self.constants: list[tree.Constant] = []
        self.nested: list[tree.Declaration] = []
        self.fields: list[tree.Field] = []
        self.methods: list[tree.Method] = []


def parse(source: Source, diagnostics: Diagnostics) -> tree.Document:
    """What could be read of a file; the rest is in `diagnostics`."""
    return _Parser(source, diagnostics).document()


class _Parser(Cursor):
    def document(self) -> tree.Document:
        doc = self.next.doc
        package: tree.Name | None = None
        imports: list[tree.Name] = []
        declarations: list[tree.Declaration] = []
        if self.sees("package"):
            package = self.statement("a package's name")
        while self.sees("import"):
            if (name := self.statement("the name of a type")) is not None:
                imports.append(name)
        while self.next.kind is not Kind.END:
            before = self.at
            try:
                declarations.append(self.declaration(self.annotations()))
            except Unreadable:
                self.depth = 0
                self.skip()
                if self.sees("}") or self.at == before:
                    self.take()
        if not declarations and not self.diagnostics:
            self.diagnostics.error("the file declares nothing", self.source, self.next.span)
        return tree.Document(
            self.source, package, tuple(imports), tuple(declarations), doc if package else None
        )

    def statement(self, what: str) -> tree.Name | None:
        """`package NAME;` or `import NAME;`"""
        word = self.take().text
        try:
            name = self.qualified(what)
            self.end_statement(f"after {word} {name.text}")
        except Unreadable:
            self.skip()
            return None
        return name

    # Declarations

    def declaration(self, annotations: tuple[tree.Annotation, ...]) -> tree.Declaration:
        doc = self.doc(annotations)
        self.enter()
        try:
            oneway = self.accept("oneway")
            if oneway and not self.sees("interface"):
                self.fail(f"expected 'interface' after 'oneway', not {self.next}")
            if self.accept("interface"):
                return self.interface(annotations, doc, oneway is not None)
            if self.accept("parcelable"):
                return self.parcelable(annotations, doc)
            if self.accept("union"):
                return self.union(annotations, doc)
            if self.accept("enum"):
                return self.enum(annotations, doc)
            self.fail(f"expected parcelable, interface, union or enum, not {self.next}")
        finally:
            self.leave()

    def doc(self, annotations: tuple[tree.Annotation, ...]) -> str | None:
        """The documentation before what comes next, or before or between its annotations."""
        if self.next.doc is not None or not annotations:
            return self.next.doc
        start = annotations[0].span.start
        at = self.at - 1
        while at >= 0 and self.tokens[at].span.start >= start:
            if self.tokens[at].doc is not None:
                return self.tokens[at].doc
            at -= 1
        return None

    def interface(
        self, annotations: tuple[tree.Annotation, ...], doc: str | None, oneway: bool
    ) -> tree.Declaration:
        name = self.qualified("an interface's name")
        if self.accept(";"):
            return tree.ForwardDecl(name=name, annotations=annotations, doc=doc, interface=True)
        members = self.members("interface", name)
        return tree.InterfaceDecl(
            name=name,
            annotations=annotations,
            doc=doc,
            constants=tuple(members.constants),
            nested=tuple(members.nested),
            oneway=oneway,
            methods=tuple(members.methods),
        )

    def parcelable(
        self, annotations: tuple[tree.Annotation, ...], doc: str | None
    ) -> tree.Declaration:
        name = self.qualified("a parcelable's name")
        parameters = self.parameters()
        if self.sees("{"):
            members = self.members("parcelable", name)
            return tree.ParcelableDecl(
                name=name,
                annotations=annotations,
                doc=doc,
                parameters=parameters,
                constants=tuple(members.constants),
                nested=tuple(members.nested),
                fields=tuple(members.fields),
            )
        headers: dict[str, str] = {}
        while self.next.text in _HEADERS and self.next.kind is Kind.IDENTIFIER:
            key = self.take().text
            value = self.next
            if value.kind is not Kind.STRING:
                self.fail(f"expected a string after {key}, not {value}")
            self.take()
            headers[key] = value.text[1:-1]
        self.end_statement(f"or '{{' after parcelable {name.text}")
        return tree.ForwardDecl(
            name=name, annotations=annotations, doc=doc, parameters=parameters, headers=headers
        )

    def union(self, annotations: tuple[tree.Annotation, ...], doc: str | None) -> tree.UnionDecl:
        name = self.qualified("a union's name")
        parameters = self.parameters()
        members = self.members("union", name)
        return tree.UnionDecl(
            name=name,
            annotations=annotations,
            doc=doc,
            parameters=parameters,
            constants=tuple(members.constants),
            nested=tuple(members.nested),
            fields=tuple(members.fields),
        )

    def parameters(self) -> tuple[tree.Name, ...]:
        """`<T, U>`"""
        if not self.accept("<"):
            return ()
        found = [self.identifier("a type parameter")]
        while self.accept(","):
            found.append(self.identifier("a type parameter"))
        self.expect(">", "after the type parameters")
        return tuple(found)

    def enum(self, annotations: tuple[tree.Annotation, ...], doc: str | None) -> tree.EnumDecl:
        name = self.qualified("an enum's name")
        self.expect("{", f"after enum {name.text}")
        found: list[tree.Enumerator] = []
        try:
            self.enumerators(found)
            if not found:
                self.fail(f"enum {name.text} has no enumerators")
            self.expect("}", f"or ',' in enum {name.text}")
        except Unreadable:
            while not self.sees("}") and self.next.kind is not Kind.END:
                self.take()
            self.take()
        return tree.EnumDecl(name=name, annotations=annotations, doc=doc, enumerators=tuple(found))

    def enumerators(self, found: list[tree.Enumerator]) -> None:
        while not self.sees("}"):
            comment = self.next.doc
            name = self.identifier("an enumerator")
            value = self.expression() if self.accept("=") else None
            found.append(tree.Enumerator(name, value, comment))
            if not self.accept(","):
                return

    # Members

    def members(self, kind: str, name: tree.Name) -> _Members:
        self.expect("{", f"after {kind} {name.text}")
        members = _Members()
        while not self.sees("}") and self.next.kind is not Kind.END:
            depth, before = self.depth, self.at
            try:
                self.member(kind, members)
            except Unreadable:
                self.depth = depth
                self.skip()
                if self.at == before and not self.sees("}"):
                    self.take()
        self.expect("}", f"at the end of {kind} {name.text}")
        return members

    def member(self, kind: str, members: _Members) -> None:
        annotations = self.annotations()
        doc = self.doc(annotations)
        if self.sees(*_TYPE_WORDS) or self.is_oneway_interface():
            members.nested.append(self.declaration(annotations))
        elif self.accept("const"):
            type_ref = self.type(annotations)
            name = self.identifier("a constant's name")
            self.expect("=", f"after the constant {name.text}")
            value = self.expression()
            self.end_statement(f"after the constant {name.text}")
            members.constants.append(tree.Constant(type_ref, name, value, doc))
        elif kind == "interface":
            members.methods.append(self.method(annotations, doc))
        else:
            members.fields.append(self.field(annotations, doc))

    def is_oneway_interface(self) -> bool:
        return self.sees("oneway") and self.tokens[self.at + 1].text == "interface"

    def field(self, annotations: tuple[tree.Annotation, ...], doc: str | None) -> tree.Field:
        type_ref = self.type(annotations)
        name = self.identifier("a field's name")
        if self.sees("("):
            self.fail("methods belong into interfaces")
        default = self.expression() if self.accept("=") else None
        self.end_statement(f"after the field {name.text}")
        return tree.Field(type_ref, name, default, doc)

    def method(self, annotations: tuple[tree.Annotation, ...], doc: str | None) -> tree.Method:
        oneway = self.accept("oneway") is not None
        type_ref = self.type(annotations)
        name = self.identifier("a method's name")
        if self.sees(";", "="):
            self.fail("an interface has methods and constants, no fields", name.span)
        self.expect("(", f"after the method {name.text}")
        arguments: list[tree.Argument] = []
        while not self.sees(")"):
            arguments.append(self.argument())
            if not self.accept(","):
                break
            if self.sees(")"):
                self.fail("expected an argument after ','")
        self.expect(")", "or ',' after an argument")
        identifier: tree.Literal | None = None
        if self.accept("="):
            token = self.next
            if token.kind is not Kind.INTEGER:
                self.fail(f"expected the method's number after '=', not {token}")
            self.take()
            identifier = tree.Literal(token.kind, token.text, token.span)
        self.end_statement(f"after the method {name.text}")
        return tree.Method(type_ref, name, tuple(arguments), oneway, identifier, doc)

    def argument(self) -> tree.Argument:
        word = self.accept("in", "out", "inout")
        direction = tree.Direction(word.text) if word else None
        type_ref = self.type(self.annotations())
        return tree.Argument(direction, type_ref, self.identifier("an argument's name"))

    # Types

    def type(self, annotations: tuple[tree.Annotation, ...] = ()) -> tree.TypeRef:
        self.enter()
        try:
            annotations += self.annotations()
            name = self.qualified("a type")
            arguments: list[tree.TypeRef] = []
            span = name.span
            if self.accept("<"):
                arguments.append(self.type())
                while self.accept(","):
                    arguments.append(self.type())
                span = span.to(self.close_angle())
            dimensions: list[tree.Expression | None] = []
            while self.sees("["):
                if len(dimensions) == DIMENSIONS:
                    self.fail(f"an array has at most {DIMENSIONS} dimensions")
                self.take()
                dimensions.append(None if self.sees("]") else self.expression())
                span = span.to(self.expect("]", "after an array's size").span)
            if self.next.kind is Kind.ANNOTATION:
                self.fail("annotations stand before the type")
            return tree.TypeRef(name, tuple(arguments), tuple(dimensions), annotations, span)
        finally:
            self.leave()

    def close_angle(self) -> Span:
        """Takes a `>`, also out of `>>`."""
        token = self.next
        if token.text == ">>" and token.kind is Kind.SYMBOL:
            middle = token.span.start + 1
            self.tokens[self.at] = Token(Kind.SYMBOL, ">", Span(middle, token.span.end))
            return Span(token.span.start, middle)
        return self.expect(">", "after the type arguments").span

    def annotations(self) -> tuple[tree.Annotation, ...]:
        found: list[tree.Annotation] = []
        while self.next.kind is Kind.ANNOTATION:
            token = self.take()
            arguments: tuple[tuple[tree.Name, tree.Expression], ...] = ()
            span = token.span
            if self.accept("("):
                arguments = self.annotation_arguments(token)
                span = span.to(self.expect(")", f"after the arguments of {token.text}").span)
            found.append(tree.Annotation(token.text[1:], arguments, span))
            if len(found) > ANNOTATIONS:
                self.fail(f"there are at most {ANNOTATIONS} annotations here", token.span)
        return tuple(found)

    def annotation_arguments(
        self, annotation: Token
    ) -> tuple[tuple[tree.Name, tree.Expression], ...]:
        if self.sees(")"):
            return ()
        named = self.next.kind is Kind.IDENTIFIER and self.tokens[self.at + 1].text == "="
        if not named:
            return ((tree.Name("value", annotation.span), self.expression()),)
        found: dict[str, tuple[tree.Name, tree.Expression]] = {}
        while True:
            name = self.identifier("an argument's name")
            self.expect("=", f"after {name.text}")
            if name.text in found:
                self.fail(f"{annotation.text} has the argument {name.text} twice", name.span)
            found[name.text] = (name, self.expression())
            if not self.accept(","):
                return tuple(found.values())

    # Constant expressions

    def expression(self, level: int = 0) -> tree.Expression:
        """Operators of at least this precedence, left to right."""
        left = self.operand()
        while self.next.kind is Kind.SYMBOL and _PRECEDENCE.get(self.next.text, -1) >= level:
            operator = self.take()
            right = self.expression(_PRECEDENCE[operator.text] + 1)
            span = left.span.to(right.span)
            left = tree.Binary(operator.text, left, right, span, operator.span)
        return left

    def operand(self) -> tree.Expression:
        self.enter()
        try:
            token = self.next
            if token.kind in (Kind.INTEGER, Kind.FLOAT, Kind.CHAR, Kind.STRING):
                self.take()
                return tree.Literal(token.kind, token.text, token.span)
            if self.accept("true", "false"):
                return tree.Literal(token.kind, token.text, token.span)
            if self.accept("+", "-", "!", "~"):
                operand = self.operand()
                return tree.Unary(token.text, operand, token.span.to(operand.span))
            if self.accept("("):
                inner = self.expression()
                self.expect(")", "after the expression")
                return inner
            if self.accept("{"):
                return self.array(token)
            name = self.qualified("a value")
            return tree.Reference(name, name.span)
        finally:
            self.leave()

    def array(self, opening: Token) -> tree.Array:
        items: list[tree.Expression] = []
        while not self.sees("}"):
            items.append(self.expression())
            if not self.accept(","):
                break
        closing = self.expect("}", "or ',' in the array")
        return tree.Array(tuple(items), opening.span.to(closing.span))
