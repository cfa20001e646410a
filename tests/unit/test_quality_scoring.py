"""The measures of `infra/bench/quality`: small cases worked out by hand, and agreement with an independent scorer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from infra.bench.quality.changes import Change, judge, survival
from infra.bench.quality.scoring import Labelled, Prediction, comparable, score

SCORER = Path(__file__).parents[3] / "shared" / "eval" / "score.py"


def truth(families: str, template: str = "Say {{x}}.") -> list[Labelled]:
    """A prompt a letter: its family; a dot is a one-off prompt."""
    return [
        Labelled(str(place), f"Say {place}.", None if family == "." else family, template)
        for place, family in enumerate(families)
    ]


def said(clusters: str) -> dict[str, Prediction]:
    """A prompt a letter: its cluster; a dash is none."""
    return {
        str(place): Prediction(None) if cluster == "-" else Prediction(cluster, "Say {{x}}.", {"x": str(place)})
        for place, cluster in enumerate(clusters)
    }


def scored(families: str, clusters: str) -> dict[str, float]:
    return score(truth(families), said(clusters))


def test_the_right_answer_scores_one_everywhere() -> None:
    scores = scored("aaabbc", "xxxyyz")
    assert [scores[name] for name in ("GA", "FGA", "1-1", "B3", "PA", "FTA", "round trip")] == [1.0] * 7


def test_one_prompt_in_the_wrong_group_spoils_both_groups() -> None:
    scores = scored("aaaabbbbcc", "xxxyyyyyzz")
    assert scores["GA"] == pytest.approx(0.2)
    assert scores["FGA"] == pytest.approx(1 / 3)
    assert scores["1-1"] == pytest.approx(0.9)


def test_a_prompt_left_alone_is_wrong_itself_but_does_not_spoil_its_family() -> None:
    scores = scored("aaaab", "xxx-y")
    assert scores["GA"] == pytest.approx(0.8)
    assert scores["FGA"] == 1.0
    assert scores["unclustered"] == pytest.approx(0.2)


def test_one_off_prompts_count_where_they_do_harm() -> None:
    scores = scored("aabb....", "xxyyxzz-")
    assert scores["GA"] == 1.0
    assert scores["noise in families"] == pytest.approx(0.25)
    assert scores["noise in own clusters"] == pytest.approx(0.5)


def test_a_family_all_of_whose_prompts_stand_alone_is_paired_with_one_of_them() -> None:
    assert scored("aab", "--x")["1-1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("one", "other", "strictly", "leniently"),
    [
        ("Say {{x}}.", "Say {{y}}.", True, True),
        ('Say "{{x}}".', "Say {{x}}", False, True),
        ("Say {{x}}, {{y}}!", "Say {{x}}!", False, True),
        ("Say\n\n{{x}}", "Say {{x}}", True, True),
        ("Say {{x}} now", "Say {{x}}", False, False),
    ],
)
def test_templates_are_compared_with_and_without_the_marks_beside_slots(
    one: str, other: str, *, strictly: bool, leniently: bool
) -> None:
    assert (comparable(one, strict=True) == comparable(other, strict=True)) == strictly
    assert (comparable(one, strict=False) == comparable(other, strict=False)) == leniently


def test_a_template_that_does_not_give_the_text_back_is_seen() -> None:
    broken = {key: Prediction(row.cluster, row.template, {"x": "?"}) for key, row in said("xx").items()}
    assert score(truth("aa"), broken)["round trip"] == 0.0


LINEAGES = [(f"{caller}{number}", caller) for number in range(1, 101) for caller in "AB"]
CHANGED = [Change("A", "slot_added", "A50")]


def test_a_change_is_found_within_fifty_prompts_and_named() -> None:
    scores = judge(LINEAGES, CHANGED, [("SLOT_ADDED", "A58")])
    assert (scores["found"], scores["named"], scores["false alarms"], scores["evolution F1"]) == (1, 1, 0, 1.0)
    assert judge(LINEAGES, CHANGED, [("UPDATED", "A58")])["named"] == 0


def test_a_second_detection_and_one_in_a_control_are_false_alarms() -> None:
    events = [("SLOT_ADDED", "A58"), ("UPDATED", "A70"), ("UPDATED", "B90"), ("UPDATED", "B3"), ("CREATED", "B80")]
    scores = judge(LINEAGES, CHANGED, events)
    assert (scores["false alarms"], scores["false alarms in controls"]) == (2, 1)
    assert scores["evolution F1"] == pytest.approx(2 * (1 / 3) / (1 + 1 / 3))


def test_an_unlike_template_may_be_a_new_cluster_a_like_one_may_not() -> None:
    unlike = [Change("A", "reworded", "A50", similarity=0.2)]
    assert judge(LINEAGES, unlike, [("CREATED", "A60")])["found"] == 1
    assert judge(LINEAGES, CHANGED, [("CREATED", "A60")])["found"] == 0


def test_a_cluster_survives_when_nine_tenths_stand_together_again() -> None:
    before = {str(number): "x" if number < 20 else "y" for number in range(40)}
    after = {key: "p" if home == "x" or int(key) < 22 else "q" for key, home in before.items() if key != "0"}
    assert survival(before, after) == 1.0
    assert survival(before, {key: "p" if int(key) < 24 else "q" for key in before}) == 0.0


# Agreement with an independent scorer of the same measures.


def scorer() -> ModuleType:
    if not SCORER.is_file():
        pytest.skip("no independent scorer beside this repository")
    spec = importlib.util.spec_from_file_location("score", SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_random_case(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    random = Random(seed)  # noqa: S311  seeded cases, no secret
    rows, predictions = [], []
    for number in range(400):
        family = min(int(random.paretovariate(0.6)), 24)
        oneoff = random.random() < 0.1
        slots = {"who": str(number), "what": random.choice(["red", "a long one", "x, y"])}
        template = f"Family {family}: tell {{{{who}}}}, please, of {{{{what}}}}"
        text = template.replace("{{who}}", slots["who"]).replace("{{what}}", slots["what"])
        rows.append(
            {
                "id": f"p{number}",
                "text": text,
                "template_id": None if oneoff else f"f{family}",
                "template": None if oneoff else template,
                "variant": "long" if family % 2 else "short",
            }
        )
        if random.random() < 0.05:
            continue
        home = None if random.random() < (0.6 if oneoff else 0.03) else family // (2 if family > 18 else 1)
        if home is not None and random.random() < 0.02:
            home += 100
        said = template.replace(" please,", "") if family % 5 == 0 else template.replace("who", "slot_1")
        if random.random() < 0.01:
            said, slots = text, {}
        if "slot_1" in said:
            slots = {"slot_1": slots["who"], "what": slots["what"]}
        predictions.append(
            {"id": f"p{number}", "cluster_id": home, "template": said, "slots": slots, "raw": said == text}
        )
    return rows, predictions


NAMES = {
    "GA": "GA",
    "FGA": "FGA",
    "one_to_one": "1-1",
    "B3_F1": "B3",
    "PA": "PA",
    "FTA": "FTA",
    "PA_strict": "PA strict",
    "FTA_strict": "FTA strict",
    "round_trip": "round trip",
    "stored_raw_share": "raw",
    "unclustered_share": "unclustered",
    "noise_in_true_families": "noise in families",
    "noise_in_own_clusters": "noise in own clusters",
}


@pytest.mark.parametrize("seed", range(5))
def test_the_measures_agree_with_an_independent_scorer(seed: int) -> None:
    rows, predictions = a_random_case(seed)
    theirs = scorer().families(rows, predictions)
    labelled = [Labelled(r["id"], r["text"], r["template_id"], r["template"], r["variant"]) for r in rows]
    ours = score(
        labelled,
        {
            row["id"]: Prediction(
                None if row["cluster_id"] is None else str(row["cluster_id"]), row["template"], row["slots"], row["raw"]
            )
            for row in predictions
        },
    )
    for their_name, our_name in NAMES.items():
        assert ours[our_name] == pytest.approx(theirs[their_name], abs=0.0005), our_name
    for variant, share in theirs["GA_by_variant"].items():
        assert ours[f"GA/{variant}"] == pytest.approx(share, abs=0.0005)


@pytest.mark.parametrize("seed", range(5))
def test_the_judgement_of_changes_agrees_with_an_independent_scorer(seed: int) -> None:
    random = Random(seed)  # noqa: S311  seeded cases, no secret
    rows = [{"id": f"{caller}{number}", "lineage_id": caller} for number in range(1, 121) for caller in "ABCDEF"]
    kinds = ["reworded", "slot_added", "slot_removed", "topic_drift", "replaced"]
    true = [
        {"lineage_id": caller, "kind": random.choice(kinds), "position_id": f"{caller}{random.randint(40, 80)}",
         "word_similarity": random.choice([0.3, 0.8])}
        for caller in "ABCD"
    ]  # fmt: skip
    types = ["UPDATED", "SLOT_ADDED", "SLOT_REMOVED", "DRIFT_DETECTED", "CREATED", "RETIRED"]
    events = [
        {"type": random.choice(types), "prompt_id": random.choice(rows)["id"] if random.random() < 0.95 else "nobody"}
        for _ in range(14)
    ]
    theirs = scorer().evolution(rows, [*true, {"lineage_id": "E", "kind": "none"}], events, 50)
    changes = [Change(e["lineage_id"], e["kind"], e["position_id"], e["word_similarity"]) for e in true]
    ours = judge([(r["id"], r["lineage_id"]) for r in rows], changes, [(e["type"], e["prompt_id"]) for e in events])
    for theirs_name, ours_name in (
        ("found", "found"), ("rightly_named", "named"), ("false_alarms", "false alarms"), ("F1", "evolution F1")
    ):  # fmt: skip
        assert ours[ours_name] == pytest.approx(theirs[theirs_name], abs=0.0005), ours_name


@pytest.mark.parametrize("seed", range(3))
def test_survival_agrees_with_an_independent_scorer(seed: int) -> None:
    random = Random(seed)  # noqa: S311  seeded cases, no secret
    before = [{"id": str(n), "cluster_id": str(n % 20) if random.random() < 0.95 else None} for n in range(400)]
    after = [
        {**row, "cluster_id": row["cluster_id"] if random.random() < 0.96 else "other"}
        for row in before
        if random.random() < 0.95
    ]
    ours = survival({r["id"]: r["cluster_id"] for r in before}, {r["id"]: r["cluster_id"] for r in after})
    assert ours == pytest.approx(scorer().survival(before, after)["survival"], abs=0.0005)
