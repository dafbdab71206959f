"""The figures of classifications are those of MONAI and torchmetrics, for two classes and for more."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc

from medgan.evaluation import classes
from medgan.evaluation.classes import Predictions
from medgan.evaluation.predictions import evaluate_predictions
from medgan.evaluation.statistics import wilson
from medgan.metrics import measure
from medgan.progress import Cancelled
from medgan.settings import EvaluateSettings

AGREE = 1e-4


def random_cases(names: str, count=60, right=0.6) -> Predictions:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(names), count)
    found = np.where(rng.random(count) < right, truth, rng.integers(0, len(names), count))
    scores = np.round(rng.random((count, len(names))), 1)  # rounded: ties
    scores[np.arange(count), truth] += 0.4
    return Predictions(list(names), truth, found, scores / scores.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("names", ["ab", "abc", "abcde"])
def test_figures_agree_with_torchmetrics(names):
    peer = pytest.importorskip("torchmetrics.functional.classification")
    cases = random_cases(names)
    truth, found = torch.from_numpy(cases.truth), torch.from_numpy(cases.found)
    scores = torch.from_numpy(cases.scores)
    ours = measure("classes", cases)
    if len(names) == 2:
        expected = {
            "accuracy": peer.binary_accuracy(found, truth),
            "recall": peer.binary_recall(found, truth),
            "precision": peer.binary_precision(found, truth),
            "f1": peer.binary_f1_score(found, truth),
            "auc": peer.binary_auroc(scores[:, 1], truth),
        }
        matrix = peer.binary_confusion_matrix(found, truth)
    else:
        count = len(names)
        expected = {
            "accuracy": peer.multiclass_accuracy(found, truth, count, average="micro"),
            "recall": peer.multiclass_recall(found, truth, count),
            "precision": peer.multiclass_precision(found, truth, count),
            "f1": peer.multiclass_f1_score(found, truth, count),
            "auc": peer.multiclass_auroc(scores, truth, count),
        }
        matrix = peer.multiclass_confusion_matrix(found, truth, count)
        per_class = peer.multiclass_auroc(scores, truth, count, average="none")
        for place in range(count):
            assert classes.class_auc(cases.about(place)) == pytest.approx(float(per_class[place]), abs=AGREE)
    assert ours == pytest.approx({name: float(value) for name, value in expected.items()}, abs=AGREE)
    assert (cases.confusion() == matrix.numpy()).all()


def test_auc_agrees_with_monai_on_its_cases():
    """Its published cases with their values: scores as they are, after a softmax, and with one class alone."""

    def auc(scores, truth) -> float | None:
        array = np.asarray(scores, dtype=float)
        array = np.stack([-array, array], axis=1) if array.ndim == 1 else array
        return classes.class_auc(Predictions("01", np.asarray(truth), np.asarray(truth), array, chosen=1))

    assert auc([0.5, 0.5, 0.2, 8.3], [0, 1, 0, 1]) == pytest.approx(0.875)
    raw = torch.tensor([[0.1, 0.9], [0.3, 1.4], [0.2, 0.1], [0.1, 0.5]])
    assert auc(raw.softmax(dim=1).numpy(), [0, 1, 0, 1]) == pytest.approx(0.75)
    assert auc(raw.numpy(), [0, 0, 0, 0]) is None
    assert auc(raw.numpy(), [1, 1, 1, 1]) is None
    cases = random_cases("ab")
    expected = compute_roc_auc(torch.from_numpy(cases.scores[:, 1]), torch.from_numpy(cases.truth))
    assert classes.auc(cases) == pytest.approx(expected, abs=AGREE)


def test_class_that_does_not_occur_takes_no_part():
    cases = Predictions(list("abc"), np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert classes.class_f1(cases.about(2)) is None
    assert classes.recall(cases) == pytest.approx(0.75)
    assert classes.auc(cases) is None
    invented = Predictions(list("abc"), np.array([0, 0, 1]), np.array([0, 2, 1]))
    assert classes.recall(invented) == pytest.approx((0.5 + 1.0 + 0.0) / 3)


@pytest.fixture
def quick() -> EvaluateSettings:
    return EvaluateSettings(bootstrap=100)


def write(path, text) -> object:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_of_two_methods_gives_figures_confusion_and_a_paired_test(tmp_path, quick):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 40)
    files = []
    for name, noise in (("good", 0.3), ("poor", 1.5)):
        score = truth + rng.normal(0, noise, 40)
        lines = [
            f"p{n},{'sick' if t else 'healthy'},{s:.3f}" for n, (t, s) in enumerate(zip(truth, score, strict=True))
        ]
        files.append(write(tmp_path / f"{name}.csv", "case,truth,score\n" + "\n".join(lines)))
    evaluation = evaluate_predictions(files, quick)
    assert evaluation.kind == "classes"
    assert evaluation.confusion["classes"] == ["healthy", "sick"]
    matrix = np.array(evaluation.confusion["matrices"]["good"])
    rows = [row for row in evaluation.rows if row["method"] == "good"]
    assert matrix.sum() == 40
    assert matrix[1, 1] == sum(row["truth"] == row["prediction"] == "sick" for row in rows)
    whole = {(entry["method"], entry["metric"]): entry for entry in evaluation.summary if "label" not in entry}
    assert whole["good", "accuracy"]["mean"] == pytest.approx(np.trace(matrix) / 40)
    assert whole["good", "auc"]["mean"] > whole["poor", "auc"]["mean"]
    entry = whole["poor", "auc"]
    assert entry["low"] < entry["mean"] < entry["high"]
    tests = {entry["metric"]: entry for entry in evaluation.comparisons}
    assert tests["auc"]["p"] < 0.05
    assert tests["auc"]["p_corrected"] >= tests["auc"]["p"]
    assert tests["auc"]["low"] > 0
    assert any("'sick'" in message for message in evaluation.messages)
    of_class = {
        (entry["label"], entry["metric"]): entry["mean"]
        for entry in evaluation.summary
        if entry.get("label") and entry["method"] == "poor"
    }
    # The score of one class is what the other lacks: both are told apart equally well.
    assert of_class["healthy", "auc"] == pytest.approx(of_class["sick", "auc"]) == whole["poor", "auc"]["mean"]
    assert of_class["sick", "recall"] == whole["poor", "recall"]["mean"]


def test_columns_may_be_called_otherwise_and_lines_that_fail_are_rows(tmp_path, quick):
    text = (
        "Patient;Target;Predicted;Model;score_1;score_2;score_10\n"
        "a;1;1;m;0,9;0,1;0\nb;2;2;m;0.2;0.7;0.1\nc;10;2;m;0;0.6;0.4\n\nd;;1;m;1;0;0\nb;2;2;m;1;0;0\ne;1;1;m;much;0;0\n"
    )
    evaluation = evaluate_predictions([write(tmp_path / "any.csv", text)], quick)
    assert evaluation.confusion == {"classes": ["1", "2", "10"], "matrices": {"m": [[1, 0, 0], [0, 1, 0], [0, 1, 0]]}}
    failed = {row["case"]: row["error"] for row in evaluation.failed}
    assert "Line 6 of 'any.csv' was left out: it has no truth." in failed["d"]
    assert "is there already" in failed["b"]
    assert "score 'much' is no number" in failed["e"]
    whole = {entry["metric"]: entry["mean"] for entry in evaluation.summary if "label" not in entry}
    assert whole["accuracy"] == pytest.approx(2 / 3)
    assert whole["auc"] == pytest.approx((1.0 + 1.0 + 1.0) / 3)


def test_score_of_one_class_of_two_says_that_of_the_other(tmp_path, quick):
    text = "case,truth,score lesion\na,lesion,0.9\nb,healthy,0.2\nc,healthy,\nd,healthy,nan\ne,lesion,0.3\n"
    evaluation = evaluate_predictions([write(tmp_path / "net.csv", text)], quick)
    said = {row["case"]: row["prediction"] for row in evaluation.rows if not row.get("error")}
    assert said == {"a": "lesion", "b": "healthy", "e": "healthy"}
    assert {row["case"] for row in evaluation.failed} == {"c", "d"}
    assert {entry["mean"] for entry in evaluation.summary if entry["metric"] == "auc"} == {1.0}


def test_score_of_the_other_class_is_noticed(tmp_path, quick):
    """The last in sorted order is the positive class, and the score is that of cancer."""
    rows = [(("normal", "cancer")[n % 2], 0.3 * (n % 2) + 0.05 * (n % 7)) for n in range(20)]
    lines = [f"p{n},{truth},{('normal', 'cancer')[score > 0.3]},{score:.2f}" for n, (truth, score) in enumerate(rows)]
    file = write(tmp_path / "net.csv", "case,truth,prediction,score\n" + "\n".join(lines))
    said = evaluate_predictions([file], quick).messages
    assert "A column 'score' is taken as that of 'normal'; set 'positive' if it is that of 'cancer'." in said
    assert any("'net' predicts 'normal' where its score is low" in each for each in said)
    right = dataclasses.replace(quick, positive="cancer")
    assert not any("where its score is low" in each for each in evaluate_predictions([file], right).messages)
    assert not any("outside of 0 to 1" in each for each in said)
    text = "case,truth,score\na,no,-3\nb,yes,4\nc,no,-1\n"
    said = evaluate_predictions([write(tmp_path / "logits.csv", text)], quick).messages
    assert any("'logits' has scores outside of 0 to 1" in each for each in said)


def scored_csv(path, method: str, scores) -> object:
    lines = [f"p{n},{n % 2},{n % 2},{score}" for n, score in enumerate(scores)]
    return write(path / f"{method}.csv", "case,truth,prediction,score\n" + "\n".join(lines))


def test_methods_are_compared_on_the_cases_that_both_have_scored(tmp_path, quick):
    """B has the scores of A, but none where they were wrong."""
    rng = np.random.default_rng(0)
    scores = [round(0.3 * (n % 2) + 0.7 * rng.random(), 3) for n in range(40)]
    partly = [score if (score > 0.5) == n % 2 else "" for n, score in enumerate(scores)]
    files = [scored_csv(tmp_path, "A", scores), scored_csv(tmp_path, "B", partly)]
    evaluation = evaluate_predictions(files, quick)
    known = 40 - partly.count("")
    found = {
        entry["method"]: entry for entry in evaluation.summary if entry["metric"] == "auc" and "label" not in entry
    }
    assert (found["A"]["n"], found["B"]["n"]) == (40, known)
    (test,) = [entry for entry in evaluation.comparisons if entry["metric"] == "auc"]
    assert (test["n"], test["difference"], test["p"]) == (known, 0.0, 1.0)
    assert f"'B' has no score in {40 - known} of 40 cases; its AUC is that of the others." in evaluation.messages


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("a,1,1\nb,1,0\nc,0,1\nd,0,0\n", "'A' and 'B' disagree on the truth of a case and are not compared."),
        ("e,1,1\nf,0,0\n", "'A' and 'B' have no case in common and are not compared."),
    ],
)
def test_methods_that_were_not_asked_the_same_are_not_compared(tmp_path, quick, other, said):
    texts = {"A": "a,1,1\nb,0,0\nc,0,1\nd,0,0\n", "B": other}
    files = [write(tmp_path / f"{name}.csv", "case,truth,prediction\n" + text) for name, text in texts.items()]
    evaluation = evaluate_predictions(files, quick)
    assert evaluation.comparisons == []
    assert said in evaluation.messages


def test_empty_line_moves_no_case(tmp_path, quick):
    rows = ["1,1", "0,0", "0,1", "0,0"]
    texts = {"A": rows, "B": [*rows[:2], "", *rows[2:]]}
    files = [
        write(tmp_path / f"{name}.csv", "truth,prediction\n" + "\n".join(text) + "\n") for name, text in texts.items()
    ]
    evaluation = evaluate_predictions(files, quick)
    assert {test["n"] for test in evaluation.comparisons} == {4}
    assert not any("not compared" in message for message in evaluation.messages)


def test_infinite_scores_rank_above_and_below_all_others(tmp_path, quick):
    evaluation = evaluate_predictions([scored_csv(tmp_path, "A", ["-inf", "inf", 0.5, 0.4])], quick)
    (auc,) = [entry for entry in evaluation.summary if entry["metric"] == "auc" and "label" not in entry]
    assert (auc["n"], auc["mean"]) == (4, 0.75)


def test_shares_of_few_cases_have_wilsons_interval_and_other_figures_none(tmp_path, quick):
    file = write(tmp_path / "x.csv", "case,truth,prediction\na,1,1\nb,0,0\nc,1,1\nd,0,0\n")
    found = {entry["metric"]: entry for entry in evaluate_predictions([file], quick).summary if "label" not in entry}
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == wilson(4, 4)
    assert (found["recall"]["low"], found["precision"]["low"]) == (wilson(2, 2)[0],) * 2
    assert (found["f1"]["low"], found["f1"]["high"]) == (None, None)


def test_column_that_names_no_class_is_none(tmp_path, quick):
    text = "case,truth,prediction,score_0,score_1,score_2,p_value\na,1,1,0.1,0.8,0.1,0.01\nb,0,0,0.9,0.1,0,0.01\n"
    evaluation = evaluate_predictions([write(tmp_path / "x.csv", text)], quick)
    assert evaluation.confusion["classes"] == ["0", "1", "2"]
    assert "No class is called like column 'p_value' of 'x.csv', so it was not read." in evaluation.messages


def test_true_and_false_are_classes_however_they_are_written(tmp_path, quick):
    text = "case,truth,prediction\na,TRUE,true\nb,False,FALSE\nc,true,True\n"
    evaluation = evaluate_predictions([write(tmp_path / "x.csv", text)], quick)
    assert evaluation.confusion == {"classes": ["false", "true"], "matrices": {"x": [[1, 0], [0, 2]]}}
    text = "case,truth,prediction\na,Tumor,tumor\nb,none,none\n"
    (said, *_) = evaluate_predictions([write(tmp_path / "y.csv", text)], quick).messages
    assert said == "The classes 'Tumor', 'tumor' differ in upper and lower case only; they count as several."


def test_classes_that_are_equal_as_numbers_are_one(tmp_path, quick):
    text = "case,truth,prediction\na,1,1.0\nb,0,0.0\nc,1,0.0\n"
    evaluation = evaluate_predictions([write(tmp_path / "x.csv", text)], EvaluateSettings(positive="1.0"))
    assert evaluation.confusion["classes"] == ["0", "1"]
    assert [row["correct"] for row in evaluation.rows] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("column", [",method", ""])
def test_methods_of_one_name_in_two_files_are_told_apart(tmp_path, quick, column):
    files = []
    for folder in ("run1", "run2"):
        (tmp_path / folder / "evaluation").mkdir(parents=True)
        text = f"case,truth,prediction{column}\na,1,1,model\nb,2,2,model\n"
        files.append(write(tmp_path / folder / "evaluation" / "model.csv", text))
    evaluation = evaluate_predictions(files, quick)
    assert evaluation.methods == ["model", "run2/model"]
    assert not evaluation.failed
    assert {(entry["a"], entry["b"]) for entry in evaluation.comparisons} == {("model", "run2/model")}
    with pytest.raises(ValueError, match="given twice"):
        evaluate_predictions([*files, files[0]], quick)


def test_files_that_say_one_method_and_share_no_case_are_its_parts(tmp_path, quick):
    texts = ("case,truth,prediction,method\na,1,1,net\n", "case,truth,prediction,method\nb,2,2,net\n")
    files = [write(tmp_path / f"fold{number}.csv", text) for number, text in enumerate(texts)]
    assert [(row["case"], row["method"]) for row in evaluate_predictions(files, quick).rows] == [
        ("a", "net"),
        ("b", "net"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,guess\na,1\n", "needs a column 'truth'"),
        ("Case,truth,score_A\n1,a,0.1\n", "it has Case, truth, score_A. No class is called like column 'score_A' of"),
        ("case,truth,prediction\na,,1\n", "no line with a truth"),
        ("case,truth,prediction\na,1,1\nb,1,1\n", "at least two classes"),
        ("case,truth,score\na,1,0.5\nb,2,0.5\nc,3,0.1\n", "one score for 3 classes"),
        ("case,truth,score_1\na,1,0.5\nb,2,0.5\nc,3,0.1\n", "one score for 3 classes"),
        ("case,truth,score\na,1,\nb,2,nan\n", "neither prediction nor score"),
        ("", "it has no columns"),
        ("case,truth,prediction\na,1," + "x" * 200_000, "can not be read as a CSV file"),
    ],
)
def test_files_that_can_not_be_used_say_why(tmp_path, quick, text, reason):
    with pytest.raises(ValueError, match=reason):
        evaluate_predictions([write(tmp_path / "x.csv", text)], quick)


def test_evaluation_of_predictions_can_be_cancelled(tmp_path, quick):
    def stop(fraction, message=""):
        raise Cancelled

    file = write(tmp_path / "x.csv", "case,truth,prediction\na,1,1\nb,2,2\n")
    with pytest.raises(Cancelled):
        evaluate_predictions([file], quick, stop)


@pytest.mark.parametrize(
    "line", [lambda n: f"{n / 7:.3f},{n / 6:.3f}", lambda n: f"{n + 20},{n + 21}", lambda n: f'"{n},5","{n // 2},5"']
)
def test_measurements_are_not_taken_for_classes(tmp_path, quick, line):
    lines = [f"c{n},{line(n)}" for n in range(40)]
    with pytest.raises(ValueError, match="classes in 40 cases look like measurements"):
        evaluate_predictions([write(tmp_path / "ages.csv", "\n".join(["case,truth,prediction", *lines]))], quick)


@pytest.mark.parametrize(("start", "cases", "scores"), [("ICD-", 22, False), ("", 44, False), ("", 22, True)])
def test_classes_may_be_many_where_cases_are_few(tmp_path, quick, start, cases, scores):
    names = [f"{start}{n}" for n in range(22)]
    lines = [["case", "truth", "prediction", *(f"score {name}" for name in names if scores)]]
    for n in range(cases):
        right, given = names[n % 22], names[n % 22 if n % 5 else 0]
        lines.append([f"c{n}", right, given, *("1" if name == given else "0" for name in names if scores)])
    found = evaluate_predictions([write(tmp_path / "x.csv", "\n".join(map(",".join, lines)))], quick)
    assert set(found.confusion["classes"]) == set(names)
    (accuracy,) = [row["mean"] for row in found.summary if row["metric"] == "accuracy"]
    assert accuracy == pytest.approx(np.mean([n % 5 > 0 or n % 22 == 0 for n in range(cases)]))


def test_line_that_was_left_out_is_named_when_the_others_have_one_class(tmp_path, quick):
    with pytest.raises(ValueError, match=r"Every case is 'a'.* Line 3 of 'x\.csv' was left out: it has no truth\."):
        evaluate_predictions([write(tmp_path / "x.csv", "case,truth,prediction\n1,a,a\n2,,b\n")], quick)
