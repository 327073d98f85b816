"""The score against what models cost: whom no other beats in both, and how to train these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.pages.drawing import BLUE, GREY, configuration_hover, frame, new_figure, show_frame
from frostline.pages.parts import Figure, Note, Section, Table
from frostline.run.outcome.front import best_front, cost_words, front_rows, front_words
from frostline.run.outcome.sentences import score_name
from frostline.run.outcome.summary import best_evaluation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.outcome.front import FrontMember

# Of costs that span more, a logarithm shows the small ones too.
_LINEAR = 10


def front_section(record: StudyRecord) -> list[Section]:
    """Return the section of the front of the highest rung that has scores; nothing where the score alone counts."""
    terms, history = record.terms, record.history
    best, front = best_evaluation(history), best_front(history, terms)
    if terms.against is None or best is None or not front:
        return []
    ended = [history.evaluation(number, best.rung) for number in history.rung(best.rung).ranking]
    costed = [each for each in ended if each is not None and each.model_cost is not None]
    where = "in full" if best.rung == len(terms.rungs) - 1 else f"at rung {best.rung} of {len(terms.rungs) - 1}"
    heading = f"The {score_name(terms.metric)} against {terms.against} of the model"
    words = front_words(front, terms)
    note = (
        f"{words[0].upper()}{words[1:]}, of {len(costed)} that were trained {where}. Lower rungs promote by both. "
        f"`frostline best STUDY --member NUMBER` tells how to train one, and where its weights lie."
    )
    header, *rows = front_rows(front, terms)
    label = f"Points: the {score_name(terms.metric)} against {terms.against}; a line joins the front."
    return [
        Section(heading, [Note(note), Figure(_figure(record, costed, front), label), Table(header, rows)]),
    ]


def _figure(record: StudyRecord, ended: Sequence[Evaluation], front: Sequence[FrontMember]) -> Any:
    terms, history = record.terms, record.history
    assert terms.against is not None
    figure = new_figure(x=f"{terms.against} of the model", y=score_name(terms.metric))
    of_front = {member.configuration.number for member in front}
    others = [each for each in ended if each.number not in of_front]
    if others:
        figure.add_scatter(
            x=[each.model_cost for each in others],
            y=[each.score for each in others],
            mode="markers",
            name="beaten",
            marker={"color": GREY, "size": 7, "symbol": "x"},
            hoverinfo="text",
            text=[
                configuration_hover(f"configuration {each.number}", history.configuration_of(each))
                for each in others
            ],
        )
    figure.add_scatter(
        x=[member.cost for member in front],
        y=[member.score for member in front],
        mode="lines+markers",
        name="front",
        # For what lies between the costs of two the cheaper one is the best there is.
        line={"color": BLUE, "shape": "vh", "width": 1},
        marker={"color": BLUE, "size": 9},
        hoverinfo="text",
        text=[
            configuration_hover(
                f"configuration {member.configuration.number}, {cost_words(member.cost, terms.against)}",
                member.configuration,
            )
            for member in front
        ],
    )
    costs = [each.model_cost for each in ended if each.model_cost is not None]
    if min(costs) > 0 and max(costs) / min(costs) > _LINEAR:
        figure.update_xaxes(type="log", exponentformat="power")
    show_frame(figure, frame([each.score for each in ended if each.score is not None], terms.direction))
    return figure
