"""A stack of layers is a sequence of them, and prints as a table."""

from __future__ import annotations

from frostline.layers import Layer, LayerStack

STACK = LayerStack(
    layers=tuple(
        Layer(name=name, modules=(name,), parameters=(f"{name}.weight",), num_parameters=size)
        for name, size in (("embedding", 1200), ("<b>block</b>", 30), ("head", 1200))
    )
)


def test_a_stack_is_a_sequence_of_layers_input_first() -> None:
    assert len(STACK) == STACK.num_layers == 3
    assert [layer.name for layer in STACK] == list(STACK.names)
    assert STACK[0].name == "embedding"
    assert STACK[-1] is STACK.layers[2]
    assert STACK[1:] == STACK.suffix(2)


def test_a_stack_prints_as_a_table_and_in_a_notebook_as_html_that_is_escaped() -> None:
    assert str(STACK).splitlines()[0] == "trained from  layer         modules       parameters  tied to"
    assert str(STACK).splitlines()[3] == "           1  head          head               1,200"
    html = STACK._repr_html_()
    assert html.count("<tr>") == 4
    assert "3 layers, 2,430 parameters" in html
    assert "<b>" not in html
    assert "&lt;b&gt;block&lt;/b&gt;" in html
