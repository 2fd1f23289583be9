"""What each strategy of learning in sequence promises, seen on a tiny model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import an_engine
from tiny import make_lively, make_tiny
from torch import Tensor

from seal.domains.probes import ask_probes, divided, probes
from seal.engine import Engine
from seal.engine.directions import load_directions, save_directions
from seal.engine.export import load_adapter
from seal.engine.head import Head
from seal.engine.pack import Row, pack, targets
from seal.engine.superpose import Binding, turned
from seal.errors import UserError
from seal.strategies import (
    GateSettings,
    Kept,
    LeashSettings,
    NullSpaceSettings,
    ReplaySettings,
    Settings,
    Step,
    SuperpositionSettings,
    Workbench,
    merged,
    strategy,
)
from seal.strategies.base import NO_GUARDS
from seal.strategies.remembered import answered, earlier
from seal.types import Ask, Example, Fault, Finished, Job, Problem, Prompt, Query, Reply, SelfEdit, Tuning

TUNING = Tuning(rank=4, alpha=8, lr=1e-2, epochs=12, batch=4, targets=("q_proj", "v_proj", "down_proj"))
NOUNS = ("ferry", "mill", "bridge", "school", "garden", "tower", "harbour", "quarry")
WORDS = ("amber", "velvet", "copper", "walnut", "silver", "linen", "marble", "wicker")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return an_engine(make_lively(tmp_path_factory.mktemp("wide"), hidden=256))


def a_bench(engine: Engine) -> Workbench:
    asked, guards = divided(probes(), (2, 2), seed=0)
    return Workbench(engine, asked, None, replace(guards, payload='{"texts": []}'))


def a_step(number: int, folder: Path, before: tuple[Kept, ...] = ()) -> Step:
    noun, word = NOUNS[number - 1], WORDS[number - 1]
    prompt = Prompt(f"The {noun}?")
    query = Query(f"{noun}/q", f"The {noun}?", word)
    problem = Problem(noun, f"The {noun}", f"The {noun} is {word}.", (query,))
    edit = SelfEdit(f"edit/{noun}", noun, "", 0, 0, prompt, (Example(word, prompt, "completion"),) * 4, TUNING)
    return Step(number, problem, edit, before, number, folder / f"step-{number}")


def logprob(bench: Workbench, worn: object, step: Step) -> float:
    found = bench.logprob(worn, step.edit.examples[:1])  # type: ignore[arg-type]
    assert found is not None
    return found


def test_an_edit_in_the_null_space_leaves_protected_inputs_as_they_were(tmp_path):
    engine = an_engine(make_tiny(tmp_path / "tiny", hidden=96))  # its logits are of size 1, so that 1e-5 is above rounding
    bench, text = a_bench(engine), Example("The sun is up.")
    path = tmp_path / "protected.safetensors"
    told = bench.wear(()).inputs([text], TUNING, path, share=1.0, most=96)
    assert 8 < told["directions"] <= 14 < told["of"]
    step = a_step(1, tmp_path)
    free, held = replace(step, folder=tmp_path / "free"), replace(step, folder=tmp_path / "held", protected=(path,))
    before = outputs(engine, text)
    moved = {}
    for one in (free, held):
        bench.train((), one)
        bench.wear(((one.folder / "adapter", 1.0),))
        moved[one.folder.name] = float((outputs(engine, text) - before).abs().max())
    assert moved["held"] < 1e-5 < 1e-2 < moved["free"]
    assert logprob(bench, ((held.folder / "adapter", 1.0),), step) > logprob(bench, (), step) + 1  # and yet it learns


def test_directions_that_two_files_share_are_one(tmp_path):
    """Their singular values are equal, where LAPACK's decomposition, in float32, may not converge (with MKL one draw in 200)."""
    for seed in range(400):
        draw = torch.Generator().manual_seed(seed)
        old = torch.linalg.qr(torch.randn(96, 96, generator=draw))[0][:40]
        mixed = torch.randn(32, 40, generator=draw) @ old + 1e-4 * torch.randn(32, 96, generator=draw)
        again = torch.linalg.qr(mixed.t())[0].t()
        found = basis(tmp_path, old, again)
        assert 40 <= len(found) <= 72
        assert torch.allclose(found @ found.t(), torch.eye(len(found)), atol=1e-5)
        for rows in (old, again):
            assert float((rows - rows @ found.t() @ found).norm(dim=1).max()) < 1e-3  # the bound of a direction is 1e-4
    assert len(basis(tmp_path, old, old)) == 40


def test_how_surprising_an_edit_is_no_earlier_edit_changes(engine, tmp_path):
    """Merged edits make a model worse at any text; the gate's bound is for what a sound model says."""
    bench = a_bench(engine)
    alone = strategy("gate", OPEN).learn(a_step(2, tmp_path / "alone"), bench)
    first = strategy("merge", OPEN).learn(a_step(1, tmp_path), bench)
    after = strategy("gate", OPEN).learn(a_step(2, tmp_path, (first,)), bench)
    assert after.facts["surprise"] == alone.facts["surprise"]
    assert after.facts["gain"] != alone.facts["gain"]


def basis(folder: Path, *parts: Tensor) -> Tensor:
    paths = [folder / f"{number}.safetensors" for number in range(len(parts))]
    for path, rows in zip(paths, parts, strict=True):
        save_directions(path, {"layer": rows})
    return load_directions(paths, torch.device("cpu"), torch.float32)["layer"]


def outputs(engine: Engine, text: Example) -> Tensor:
    step = pack([engine.language.encode_example(text)[0]], [None], device=engine.host.device)
    with torch.no_grad(), engine.host.using(step, None):
        return Head(engine.language.model).logits(engine.host.hidden())


def test_null_space_tells_what_it_kept_free_and_leaves_no_file(engine, tmp_path):
    settings = Settings(null_space=NullSpaceSettings(share=0.8, most=24, most_earlier=6, rehearsal=1, tokens=4))
    bench = a_bench(engine)
    kept = strategy("null-space", settings).learn(a_step(1, tmp_path), bench)
    assert kept.adapter is not None
    assert 1 <= kept.facts["directions"] <= 24
    assert kept.facts["input_seconds"] > 0
    assert [one.name for one in (tmp_path / "step-1").iterdir()] == ["adapter"]
    again = strategy("null-space", settings).learn(a_step(2, tmp_path, (kept,)), bench)
    assert 1 <= again.facts["directions of earlier edits"] <= 6


def test_a_leash_holds_what_was_said_and_lets_the_edit_be_learnt(engine, tmp_path):
    bench, moved, learnt = a_bench(engine), {}, {}
    said = answered(a_step(1, tmp_path), bench, 2, 8)
    for name in ("merge", "leash"):
        settings = Settings(leash=LeashSettings(weight=20.0, rehearsal=0, tokens=8))
        step = a_step(1, tmp_path / name)
        worn = merged([strategy(name, settings).learn(step, bench)])
        moved[name] = sum(divergence(engine, one, bench, worn) for one in said)
        learnt[name] = logprob(bench, worn, step)
    assert moved["leash"] < 0.2 * moved["merge"]
    assert learnt["leash"] > logprob(bench, (), step) + 1


def divergence(engine: Engine, one: Example, bench: Workbench, worn: object) -> float:
    said = []
    for wears in ((), worn):
        bench.wear(wears)  # type: ignore[arg-type]
        said.append(outputs(engine, one).log_softmax(-1))
    first = engine.language.encode_example(one)[1] - 1
    return float((said[0].exp() * (said[0] - said[1])).sum(-1)[first:].mean())


def test_the_divergence_and_its_gradient_are_those_of_the_formula(tmp_path):
    model = an_engine(make_tiny(tmp_path / "m")).language.model.double()
    head, draw = Head(model), torch.Generator().manual_seed(1)
    now = torch.randn(5, 32, generator=draw, dtype=torch.float64, requires_grad=True)
    before = torch.randn(3, 32, generator=draw, dtype=torch.float64)
    row = [(1, 2, 3), (4, 5)]
    aim = targets([Row.of(one) for one in row], [0, 1], {0: 2, 1: 1}, device=torch.device("cpu"))
    total, each = head.divergence(now, before, aim, 2)
    total.backward()
    mine, now.grad = now.grad, None
    said = [(x @ head.weight.t()).log_softmax(1) for x in (before, now[aim.position])]
    kl = (said[0].exp() * (said[0] - said[1])).sum(1) * aim.weight
    kl.sum().backward()
    torch.testing.assert_close(total, kl.sum())
    torch.testing.assert_close(each, torch.stack([kl[:2].sum(), kl[2]]).detach())
    torch.testing.assert_close(mine, now.grad)


def test_a_row_that_is_held_costs_nothing_before_anything_was_learnt(engine, tmp_path):
    held = Example("is wet", Prompt("Water"), "completion", keep=True)
    (finished,) = engine.run([Job("j", (held, held), (), replace(TUNING, epochs=2, batch=1))])
    assert finished.losses[0] == pytest.approx(0, abs=1e-6)


def test_eight_adapters_in_one_set_of_weights_are_told_apart_by_their_keys(engine, tmp_path):
    """Under its own key a problem is answered as by its adapter alone, under another's as by the base, without a key by it."""
    bench, made = a_bench(engine), strategy("superposition", Settings(superposition=SuperpositionSettings(most=32, tokens=4)))
    kept: tuple[Kept, ...] = ()
    for number in range(1, 9):
        step = a_step(number, tmp_path, kept)
        edit = replace(step.edit, tuning=replace(TUNING, epochs=24))
        kept = (*kept, made.learn(replace(step, edit=edit), bench))
    ((path, _, _),) = made.wears(kept, kept[0])
    lost, leaked = [], []
    for one in kept:
        step = a_step(one.step, tmp_path)
        base, alone = (answers(bench, worn, step) for worn in ((), merged([one])))
        assert alone == 1 > base
        assert [made.chosen(kept, one.problem, query) for query in one.problem.queries] == [one]
        worn = made.wears(kept, one)
        assert worn == ((path, 1.0, one.step),)
        lost.append(alone - answers(bench, worn, step))
        leaked.append(answers(bench, ((path, 1.0, one.step % 8 + 1),), step) - base)
    assert sum(lost) / len(lost) <= 0.05
    assert abs(sum(leaked) / len(leaked)) <= 0.05
    assert made.wears(kept, None) == ()


def test_what_a_problem_gives_the_layers_is_read_with_its_adapter(engine, tmp_path):
    how = SuperpositionSettings(most=16, guards=1, tokens=4)
    bench, step = a_bench(engine), a_step(1, tmp_path)
    kept = strategy("superposition", Settings(superposition=how)).learn(step, bench)
    texts = (*step.edit.examples, *answered(step, bench, how.guards, how.tokens))
    read = {}
    for name, worn in (("with", merged([kept])), ("without", ())):
        bench.wear(worn).inputs(texts, TUNING, tmp_path / name, share=how.share, most=how.most)
        read[name] = load_file(tmp_path / name)
    found = load_file(tmp_path / "step-1" / "inputs.safetensors")
    assert all(torch.equal(found[name], one) for name, one in read["with"].items())
    assert any(not torch.equal(found[name], one) for name, one in read["without"].items())


def test_adapters_bound_one_by_one_are_as_if_bound_at_once(engine, tmp_path):
    bench, made = a_bench(engine), strategy("superposition", Settings(superposition=SuperpositionSettings(most=16, tokens=4)))
    kept: tuple[Kept, ...] = ()
    for number in range(1, 4):
        kept = (*kept, made.learn(a_step(number, tmp_path, kept), bench))
    folders = [one.adapter.parent for one in kept if one.adapter]
    assert [(one / "binding.safetensors").is_file() for one in folders] == [False, True, True]
    assert [(one / "superposed").is_dir() for one in folders] == [False, True, True]
    one_by_one = load_adapter(folders[2] / "superposed")
    (folders[1] / "binding.safetensors").unlink()  # as a run has it that was begun before there were such files
    made.learn(a_step(3, tmp_path, kept[:2]), bench)
    at_once = load_adapter(folders[2] / "superposed")
    for name, (a, b) in at_once.items():
        torch.testing.assert_close(one_by_one[name][0], a, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
        assert torch.equal(one_by_one[name][1], b)


def test_what_many_adapters_come_to_is_no_wider_than_the_layers(monkeypatch):
    """12 adapters of rank 3 on layers of (in, out) 20 -> 8 and 8 -> 20 do under their keys what all side by side do."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    shapes = {"narrows": (20, 8), "widens": (8, 20)}
    sites, bound, sides, ranks = {name: name for name in shapes}, Binding(), Binding(), []
    for key in range(1, 13):
        factors = {name: (draw(3, inputs), draw(outputs, 3)) for name, (inputs, outputs) in shapes.items()}
        given = {name: draw(4, inputs) for name, (inputs, _) in shapes.items()}
        bound.add(factors, given, sites, key)
        with monkeypatch.context() as patched:
            patched.setattr("seal.engine.superpose._narrowed", lambda wanted, b: (wanted, b))
            sides.add(factors, given, sites, key)
        made, wanted = bound.factors(sites), sides.factors(sites)
        ranks.append({len(a) for a, _ in made.values()})
        for name in shapes:
            (a, b), (whole_a, whole_b) = made[name], wanted[name]
            torch.testing.assert_close(b @ a, whole_b @ whole_a, rtol=1e-4, atol=1e-4)
    assert ranks == [{3}, {6}, *[{8}] * 10]


@pytest.mark.parametrize("length", [5, 40])
@pytest.mark.parametrize("name", ["gate+replay", "gate+null-space", "replay+gate", "null-space+gate", "gate+leash+replay"])
def test_a_gate_measures_no_example_that_is_learnt_again_or_protected(tmp_path, name, length):
    told = tuple(Example(f"earlier {number}") for number in range(length))
    settings = replace(OPEN, replay=ReplaySettings(rehearsal=0), leash=LeashSettings(guards=0, rehearsal=0))
    settings = replace(settings, null_space=NullSpaceSettings(rehearsal=0))
    first, engine = with_examples(a_step(1, tmp_path), *told), Listening()
    kept = Kept(1, first.problem, first.edit, tmp_path)
    strategy(name, settings).learn(a_step(2, tmp_path, (kept,)), Workbench(engine, NO_GUARDS))  # type: ignore[arg-type]
    assert engine.scored & set(told)
    assert engine.used & set(told)
    assert not engine.scored & engine.used


def test_a_gate_that_shares_with_nobody_draws_as_ever(tmp_path):
    told = tuple(Example(f"earlier {number}") for number in range(40))
    first = with_examples(a_step(1, tmp_path), *told)
    step = a_step(2, tmp_path, (Kept(1, first.problem, first.edit, tmp_path),))
    for name in ("gate+library", "gate+leash"):
        engine = Listening()
        settings = replace(OPEN, leash=LeashSettings(guards=0, rehearsal=0))
        strategy(name, settings).learn(step, Workbench(engine, NO_GUARDS))  # type: ignore[arg-type]
        assert engine.scored & set(told) == set(Random(step.seed).sample(told, 16))


class Listening:
    """An engine that does nothing but remember the examples: which were scored, and which were trained on or read."""

    def __init__(self) -> None:
        self.scored: set[Example] = set()
        self.used: set[Example] = set()

    def wear(self, adapters: Any) -> None:
        pass

    def count(self, example: Example) -> int:
        return 1

    def fits(self, ask: Ask) -> bool:
        return True

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        for job in jobs:
            self.scored |= {Example(ask.target or "") for ask in job.asks}
            self.used |= set(job.examples)
            yield Finished(job.id, tuple(Reply("", target_logprob=-1.0) for _ in job.asks))

    def inputs(self, examples: Sequence[Example], tuning: Tuning, path: Path, **named: Any) -> dict[str, float]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        self.used |= set(examples)
        return {"directions": 1.0}


@pytest.mark.parametrize("name", ["merge", "library", "superposition", "gate", "replay", "leash", "null-space"])
def test_a_late_step_costs_what_an_early_one_does(engine, tmp_path, name):
    """Rows trained and read, questions, replies, adapters bound. The earlier edits that are looked at are drawn, and so few."""
    settings = Settings(
        gate=GateSettings(bound=9.0, surprise=99.0, clash=1.0, earlier=4),
        replay=ReplaySettings(earlier=4, rehearsal=1, tokens=4),
        leash=LeashSettings(guards=1, rehearsal=1, tokens=4),
        null_space=NullSpaceSettings(share=0.5, most=8, earlier=4, most_earlier=4, rehearsal=1, tokens=4),
        superposition=SuperpositionSettings(most=8, guards=1, tokens=4),
    )
    counted, made = Counted(engine), strategy(name, settings)
    bench = replace(a_bench(engine), engine=counted)
    kept: tuple[Kept, ...] = ()
    work = []
    for number in range(1, 7):
        step = a_step(number, tmp_path, kept)
        counted.work = dict.fromkeys(counted.work, 0)
        kept = (*kept, made.learn(replace(step, edit=replace(step.edit, tuning=replace(TUNING, epochs=1))), bench))
        work.append(counted.work)
    said = [one.pop("sampled") for one in work]
    assert max(said[2:]) <= max(said[:2])
    assert all(one == work[1] for one in work[2:])
    assert work[1]["trained"] > 0


class Counted:
    """An engine that counts what it is given to do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.work = dict.fromkeys(("trained", "asked", "sampled", "read", "bound"), 0)

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        jobs = list(jobs)
        self.work["trained"] += sum(len(job.examples) for job in jobs)
        self.work["asked"] += sum(len(job.asks) for job in jobs)
        return self._engine.run(jobs)

    def sample(self, prompts: Sequence[Prompt], *args: Any, **named: Any) -> list[list[Reply]]:
        self.work["sampled"] += len(prompts)
        return self._engine.sample(prompts, *args, **named)

    def inputs(self, examples: Sequence[Example], *args: Any, **named: Any) -> dict[str, float]:
        self.work["read"] += len(examples)
        return self._engine.inputs(examples, *args, **named)

    def superpose(self, held: Sequence[Any], *args: Any) -> None:
        self.work["bound"] += len(held)
        self._engine.superpose(held, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def answers(bench: Workbench, worn: object, step: Step) -> float:
    (one,) = step.problem.queries
    ask = Ask(one.id, Prompt(one.question), one.answer, 8)
    (finished,) = bench.wear(worn).run([Job("j", (), (ask,))])  # type: ignore[arg-type]
    return float(finished.replies[0].text == one.answer)


def test_a_key_turns_and_turns_back():
    a = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned(turned(a, 5), 5), a, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned(a, 5).norm(dim=1), a.norm(dim=1))
    assert (turned(a, 5) - turned(a, 6)).abs().max() > 0.1


def test_strategies_stand_around_each_other(engine, tmp_path):
    settings = Settings(
        leash=LeashSettings(rehearsal=0, tokens=4), null_space=NullSpaceSettings(share=0.5, most=8, rehearsal=0, tokens=4)
    )
    kept = strategy("gate+leash+null-space", settings).learn(a_step(1, tmp_path), a_bench(engine))
    assert {"harm", "directions"} <= kept.facts.keys()
    assert strategy("replay+library").beside
    with pytest.raises(UserError, match="'library' cannot stand around another"):
        strategy("library+replay")


@pytest.mark.parametrize("inner", ["library", "superposition"])
def test_a_gate_around_adapters_held_apart_sees_what_they_teach(engine, tmp_path, inner):
    settings = Settings(
        gate=GateSettings(surprise=99.0, clash=1.0), superposition=SuperpositionSettings(most=32, guards=1, tokens=4)
    )
    kept = strategy(f"gate+{inner}", settings).learn(a_step(1, tmp_path), a_bench(engine))
    assert (kept.weight, kept.facts["harm"]) == (1.0, 0.0)
    assert kept.facts["gain"] > 1


@pytest.mark.parametrize(("inner", "title"), [("library", "The ferry"), ("superposition", "The Who")])
def test_a_gate_measures_the_gain_on_a_steps_own_adapter(engine, tmp_path, inner, title):
    """Also where another step's problem has the same title, and where no word of the title says what it is about."""
    how = Settings(gate=GateSettings(surprise=99.0, clash=1.0), superposition=SuperpositionSettings(most=32, guards=1, tokens=4))
    bench, made = a_bench(engine), strategy(f"gate+{inner}", how)
    kept: tuple[Kept, ...] = ()
    for number in (1, 2):
        step = a_step(number, tmp_path, kept)
        kept = (*kept, made.learn(replace(step, problem=replace(step.problem, title=title)), bench))
        assert kept[-1].why == ""
    step, (worn,) = a_step(2, tmp_path), made.wears(kept, kept[1])
    assert worn[2:] == ((2,) if inner == "superposition" else ())
    assert kept[1].facts["gain"] == pytest.approx(logprob(bench, (worn,), step) - logprob(bench, (), step), abs=1e-4)
    assert kept[1].facts["gain"] > 1


def test_what_was_trained_before_is_not_trained_again(engine, tmp_path):
    bench = a_bench(engine)
    kept = [strategy(name).learn(a_step(1, tmp_path / name), bench) for name in ("merge", "library")]
    first, second = (load_adapter(one.adapter) for one in kept)
    assert kept[0].cost == kept[1].cost
    assert all(torch.equal(first[name][0], second[name][0]) for name in first)
    assert kept[0].adapter != kept[1].adapter
    assert bench.spared_seconds == kept[1].cost.train_seconds > 0


LONG = Example("x" * 500)
"""Fits the context of 512 as it is learnt, and not with a chat's turn around it."""
OPEN = Settings(gate=GateSettings(bound=9.0, surprise=99.0, clash=1.0))


def with_examples(step: Step, *examples: Example) -> Step:
    return replace(step, edit=replace(step.edit, examples=examples, tuning=replace(TUNING, epochs=4)))


def test_what_is_too_long_to_be_scored_does_not_hide_the_rest(engine, tmp_path):
    bench, short = a_bench(engine), a_step(1, tmp_path).edit.examples
    alone = bench.logprob((), short)
    assert alone is not None
    assert bench.logprob((), (LONG, *short)) == alone
    assert bench.logprob((), (LONG,)) is None
    long = Query("long", "?", LONG.completion, "probe")
    assert replace(bench, guards=replace(bench.guards, queries=(*bench.guards.queries, long))).guard_logprob(()) is not None


def test_a_gate_measures_beside_what_is_too_long_to_be_scored(engine, tmp_path):
    bench = replace(a_bench(engine), guards=NO_GUARDS)
    first = a_step(1, tmp_path)
    kept = strategy("gate", OPEN).learn(with_examples(first, *first.edit.examples, LONG), bench)
    assert (kept.weight, kept.why) == (1, "")
    second = a_step(2, tmp_path, (kept,))
    assert strategy("gate", OPEN).learn(second, bench).facts["harm"] > 0


def test_a_gate_refuses_what_it_cannot_score(engine, tmp_path):
    kept = strategy("gate", OPEN).learn(with_examples(a_step(1, tmp_path), LONG), a_bench(engine))
    assert (kept.adapter, kept.weight, kept.why) == (None, 0, "refused: no example of it is short enough to be scored")


def test_a_fault_in_scoring_is_not_silence(engine, tmp_path):
    class Broken(Counted):
        def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
            return (Finished(job.id, fault=Fault("nan", "no number")) for job in jobs)

    with pytest.raises(RuntimeError, match="no number"):
        replace(a_bench(engine), engine=Broken(engine)).logprob((), a_step(1, tmp_path).edit.examples)


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        ("amber", "refused: harm inf, more than 9"),
        ("a guard", "refused: harm inf, more than 9"),
        ("velvet", "refused: gains nothing (nan nats an example)"),
        ("nothing", ""),
    ],
)
def test_a_gate_refuses_an_adapter_that_leaves_no_numbers(tmp_path, lost, why):
    class Broken(Listening):
        """With one adapter more everything is likelier, but what is lost."""

        def wear(self, adapters: Any) -> None:
            self.worn = len(adapters)

        def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
            for job in jobs:
                scores = (nan if self.worn > 1 and ask.target == target else self.worn - 3.0 for ask in job.asks)
                yield Finished(job.id, tuple(Reply("", target_logprob=score) for score in scores))

    first = a_step(1, tmp_path)
    kept = Kept(1, first.problem, first.edit, tmp_path)
    bench = a_bench(Broken())  # type: ignore[arg-type]
    target = ask_probes(bench.guards)[0].target if lost == "a guard" else lost
    one = strategy("gate", OPEN).learn(a_step(2, tmp_path, (kept,)), bench)
    assert (one.weight, one.why) == (0.0 if why else 1.0, why)


def test_what_was_refused_is_not_learnt_again(tmp_path):
    steps = [a_step(number, tmp_path) for number in (1, 2)]
    kept = tuple(Kept(one.number, one.problem, one.edit, tmp_path, weight) for one, weight in zip(steps, (0.0, 0.5), strict=True))
    drawn, _ = earlier(a_step(3, tmp_path, kept), 99)
    assert [one.completion for one in drawn] == ["velvet"] * 4
