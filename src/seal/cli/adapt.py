"""`seal adapt`: your own documents into an adapter."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from seal.cli import complete
from seal.cli.options import Json, Seed, Slots, with_options
from seal.cli.own_recipe import known_recipe, refuse_unknown, taken_back
from seal.cli.policies import learnt_by, named_policy, refuse_no_adapter
from seal.cli.resume import resumable
from seal.errors import UserError

if TYPE_CHECKING:
    from seal.cli.work import Work
    from seal.config import Recipe
    from seal.domains.documents import Documents
    from seal.report.card import Loading
    from seal.report.tables import Row
    from seal.store import RunInfo, Store
    from seal.types import Problem

CARD, MODEL = "README.md", "model"
"""In the adapter's folder, beside PEFT's and seal's own files: its model card, and the whole model."""


def adapt(
    what: Annotated[
        list[str], typer.Argument(metavar="PATH... [a.b=value...]", help="Files and folders; values for the recipe.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the adapter goes, and the run it is made in.")] = Path(
        "adapted"
    ),
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="RECIPE", help="Settings: a TOML file or a shipped name.", autocompletion=complete.recipe
        ),
    ] = "adapt",
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="DIR", help="Who writes the edits: a trained policy (PEFT), not the plain model."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Save the whole model too, in DIR/model.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the passages and what cannot be read, and do nothing.")] = False,
    seed: Seed = None,
    slots: Slots = None,
    json: Json = False,
) -> None:
    """Make a model know your documents, and show whether it does.

    Interrupted, the same command goes on where it was. With more documents it writes and tries edits for the new passages only,
    and trains the adapter again on all that was accepted; with fewer, on what is left.

    Examples:
      seal adapt handbook/ --list
      seal adapt handbook/ notes.md --out handbook-adapter
      seal adapt handbook/ --out handbook-adapter --merge outer.edits=5
      seal adapt handbook/ --policy runs/2026-01-31-bundled/policy/round-1
    """
    from seal.cli.progress import Display
    from seal.cli.work import Work
    from seal.config import load
    from seal.loops import build

    paths = [Path(one).expanduser() for one in what if not _is_override(one)]
    changes = with_options([one for one in what if _is_override(one)], seed=seed, slots=slots)
    if not paths:
        raise UserError("seal adapt needs a file or a folder to read: seal adapt PATH...")
    for path in paths:  # before a model is fetched or opened
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    if policy is not None:
        policy = named_policy(str(policy))
        refuse_no_adapter(policy, "--policy")
    settings = load(recipe, changes, gone=_unknown(out))
    if settings.domain.plans_alone:
        raise UserError(
            f"--recipe {recipe}: its edits are plans alone, each with a training of its own, and all passages are learnt in one;"
            " name one whose edits are words"
        )
    if settings.outer.policy is not None:
        raise UserError(f"outer.policy: `seal adapt` takes the policy as an option: --policy {settings.outer.policy}")
    _refuse_unread_keys(changes)
    _refuse_read(out, paths)
    if not listed:
        _refuse_foreign(out, merge)
        _refuse_unknown(out, changes)
    with Display() as display:
        work = Work(settings, display, build.passages_domain(settings))
        count = work.counter() if listed else _counter(work, policy)
        found = _read(paths, out, work, count)
        rows = _rows(found, count)
        if not (listed or found.passages):
            _refuse_unread(rows["unread"])
        done = None if listed else _adapt(work, found, rows, out, policy, merge)
    if done is None:
        _show(rows, json)
    else:
        _print(*done, json)


def _is_override(word: str) -> bool:
    return "=" in word and not Path(word).expanduser().exists()


def _refuse_unread_keys(changes: Sequence[str]) -> None:
    """Raises UserError for values that would change nothing. A whole recipe may have them: it may be another loop's too."""
    from seal.config import given
    from seal.loops.adapt import goes_by

    if unread := [key for key in dict.fromkeys(given(changes)) if not goes_by(key)]:
        which = "it" if len(unread) == 1 else "them"
        raise UserError(f"{', '.join(unread)}: `seal adapt` does not go by {which}, only other verbs do; leave {which} out")


def _refuse_read(out: Path, paths: Sequence[Path]) -> None:
    if out.resolve() in {path.resolve() for path in paths}:
        raise UserError(f"--out {out} is among what is read, and the adapter's own files would be documents; name another place")


def _refuse_foreign(out: Path, merge: bool) -> None:
    """Nothing that is not of an earlier `seal adapt` is written over: in a folder without its run, each such name is a user's."""
    from seal.models.adapter import FILE, WEIGHTS, refuse_foreign_model

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is there already and is no folder; name another place")
    if (out / "config.json").exists():
        raise UserError(
            f"--out {out} holds a model, and an adapter beside it is put on by every program that opens it; name another place"
        )
    taken = [] if _earlier(out) else [name for name in (CARD, FILE, *WEIGHTS) if (out / name).exists()]
    if taken:
        raise UserError(f"--out {out} has what would be overwritten: {', '.join(taken)}; name another place, or move that away")
    if merge:
        refuse_foreign_model(out / MODEL)


def _refuse_unknown(out: Path, changes: Sequence[str]) -> None:
    """What another version of seal began there, and this one does not understand, has to be taken back by name."""
    from seal.store import Store

    if found := _earlier(out):
        with Store.open(found[-1].path, write=False) as store:
            refuse_unknown(store, changes)


def _unknown(out: Path) -> list[str]:
    """The overrides `key=` that `_refuse_unknown` asks for; they are no mistake in the recipe."""
    from seal.store import Store

    if not (found := _earlier(out)):
        return []
    with Store.open(found[-1].path, write=False) as store:
        return taken_back(store)


def _earlier(out: Path) -> list[RunInfo]:
    """The runs in `out`, oldest first."""
    from seal.store import runs

    return [info for info in runs(out / "runs") if info.status != "unreadable"]


def _counter(work: Work, policy: Path | None) -> Callable[[str], int]:
    """How many tokens a text is for the model, which is opened."""
    from seal.types import Example

    work.open_engine(policy)
    return lambda text: work.engine.count(Example(text))


def _read(paths: Sequence[Path], out: Path, work: Work, count: Callable[[str], int]) -> Documents:
    """What is read; this adapter's own folder and every other adapter's are no documents, wherever they lie."""
    from seal.domains.documents import read_documents
    from seal.models.adapter import is_published

    notify = work.display.stages(lambda: "reading")
    return read_documents(
        paths,
        count=count,
        budget=work.recipe.adapt.passage_tokens,
        passed_over=lambda folder: folder.resolve() == out.resolve() or is_published(folder),
        notify=lambda done, total: notify("documents", done, total),
    )


def _rows(found: Documents, count: Callable[[str], int]) -> dict[str, list[Row]]:
    """What was read, as the store keeps it and --list shows it."""
    from seal.domains.passages import context_of

    return {
        "documents": [{"path": str(one.path), "sha256": one.sha256, "passages": list(one.passages)} for one in found.sources],
        "unread": [{"path": str(one.path), "reason": one.reason} for one in found.refused],
        "passages": [
            {
                "id": one.problem.id,
                "title": one.problem.title,
                "source": str(one.source),
                "tokens": count(f"{one.problem.title}\n{context_of(one.problem)}"),
                "begins": " ".join(context_of(one.problem).split())[:60],
                "questions": len(one.problem.queries),
            }
            for one in found.passages
        ],
    }


def _refuse_unread(unread: Sequence[Row]) -> NoReturn:
    from seal.report import card

    reasons = "".join(f"\n  {one['path']}: {one['reason']}" for one in card.grouped(unread))
    raise UserError(f"nothing to absorb: no document could be read{reasons}")


def _show(rows: dict[str, list[Row]], json: bool) -> None:
    from seal.cli.output import print_json, print_whole
    from seal.report import card

    if json:
        print_json(rows)
    else:
        print_whole(card.passages(rows["passages"], rows["unread"]))


def _adapt(
    work: Work, found: Documents, rows: dict[str, list[Row]], out: Path, policy: Path | None, merge: bool
) -> tuple[Row, Loading]:
    """The loop, then the files. What they say of the past comes from the store, so a second life writes them alike."""
    from seal.loops import build
    from seal.loops.adapt import adapt
    from seal.store import keys

    with _run(out, work.recipe, policy, found.problems) as store:
        store.set_state(keys.ADAPT_DOCUMENTS, rows)
        adaptation = build.adaptation(work.recipe, found.problems, work.engine.language.context, policy)
        with work.working(store), work.tracking(store) as tracking:
            adapter = adapt(
                work.engine,
                work.domain,  # type: ignore[arg-type]
                store,
                adaptation,
                reward=work.reward,
                seed=work.recipe.seed,
                notify=work.notify(store, lambda: "adapt"),
            )
            tracking.send_adapted()
        made = _publish(work, store, adapter, out, policy, merge)
        store.finish()
        return made


def _publish(work: Work, store: Store, adapter: Path, out: Path, policy: Path | None, merge: bool) -> tuple[Row, Loading]:
    """The whole model first, which takes longest and most; then the adapter and its card, so that neither is another's."""
    import json

    from seal.models import CATALOG
    from seal.models.adapter import About, loadable, publish
    from seal.report.adapted import adapted
    from seal.report.card import Loading, card, model_card, transformers_snippet, vllm_command
    from seal.store import keys

    name, chat = work.recipe.rooted(Path.cwd()).model.name, work.engine.language.chat
    created = datetime.datetime.now().astimezone().isoformat(timespec="seconds")

    def load(how: Loading) -> dict[str, str]:
        return {"transformers": transformers_snippet(how), "vllm": vllm_command(how)}

    merged = out / MODEL
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    how = Loading(out, loadable(name), chat, rank, merged if merge else None)
    document = {
        **adapted(store),
        "adapter": str(out),
        "base": how.base,
        "run": str(store.path),
        "created": created,
        "trained_on": CATALOG[name].file if name in CATALOG else None,
        "recipe": store.recipe_toml,
        "load": load(how.here.by_itself),
        "load_merged": load(how.here) if merge else None,
    }
    if merge:
        _save_whole(work, store, adapter, merged, model_card(document, how))
    elif merged.exists():
        work.display.note(f"{merged} is of an earlier adapter; --merge saves it again")
    inside = learnt_by(policy) if policy and work.recipe.outer.learner == "policy" else set()
    learnt = inside | {one["id"] for one in document["passages"] if one["accepted"]}
    text = card(document, how)
    _keep_changed_card(work, store, keys.CARD, out / CARD, out / CARD)
    publish(adapter, out, About(name, chat, "knowledge", created, tuple(sorted(learnt))), {CARD: text})
    store.set_state(keys.CARD, _sha256(text.encode()))
    return document, how


def _save_whole(work: Work, store: Store, adapter: Path, place: Path, text: str) -> None:
    """The whole model with its card. A card that was changed is kept beside its folder: in it nothing is a user's."""
    from seal.models.adapter import save_merged
    from seal.store import keys

    work.display.say("saving the whole model")
    work.engine.load(None)
    work.engine.close()
    _keep_changed_card(work, store, keys.MODEL_CARD, place / CARD, place.with_name(f"{MODEL}-{CARD}"))
    save_merged(work.engine.language, adapter, place, {CARD: text})
    store.set_state(keys.MODEL_CARD, _sha256(text.encode()))


def _keep_changed_card(work: Work, store: Store, key: str, place: Path, beside: Path) -> None:
    """An earlier model card that was changed since is kept, under a number, as `beside`."""
    if place.exists() and _sha256(place.read_bytes()) != store.get_state(key):
        number = next(n for n in itertools.count(1) if not beside.with_stem(f"{beside.stem}-{n}").exists())
        kept = place.rename(beside.with_stem(f"{beside.stem}-{number}"))
        work.display.note(f"{place} is not as seal wrote it; it is kept as {kept}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _run(out: Path, recipe: Recipe, policy: Path | None, passages: Sequence[Problem]) -> Iterator[Store]:
    """The run in `out`: the one that is there, if its settings and questions are these, else a new one."""
    from seal.config import dump
    from seal.loops import build
    from seal.loops.adapt import refuse_other_questions
    from seal.store import Store, keys

    whole = recipe.rooted(Path.cwd())
    written_by = str(policy.resolve()) if policy else None
    found = _earlier(out)
    if not found:
        with Store.create(out / "runs", recipe.name, dump(whole), build.environment(recipe)) as store, resumable(_SAME):
            store.set_state(keys.KIND, "adapt")
            store.set_state(keys.ADAPT_POLICY, written_by)
            yield store
        return
    with Store.open(found[-1].path, write=True) as store:
        _refuse_other(out, store, whole, written_by)
        refuse_other_questions(store, passages)
        with resumable(_SAME):
            yield store


_SAME = "the same command again"


def _refuse_other(out: Path, store: Store, recipe: Recipe, written_by: str | None) -> None:
    """Raises UserError, naming each setting that differs, if the run in `out` was begun with others."""
    from seal.config import flat
    from seal.loops.adapt import goes_by
    from seal.store import keys

    def settings(recipe: Recipe, policy: str | None) -> dict[str, Any]:
        found = flat(
            recipe.model_dump(
                mode="json", exclude_none=True, exclude={"engine": True, "track": True, "model": {"device", "dtype"}}
            )
        )
        found = {key: value for key, value in found.items() if goes_by(key)}
        return {**found, "--policy": policy} if policy else found

    was = settings(known_recipe(store), store.get_state(keys.ADAPT_POLICY))
    now = settings(recipe, written_by)
    other = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    if other:
        lines = "".join(f"\n  {key}: {_shown(was, key)}, not {_shown(now, key)}" for key in other)
        raise UserError(f"{out} was made with other settings; take those ({store.path}/recipe.toml), or another --out{lines}")


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "none"


def _print(document: Row, how: Loading, json: bool) -> None:
    from seal.cli.output import print_json, print_whole
    from seal.report import card

    if json:
        print_json(document)
        return
    print_whole(card.outcome(document))
    print(f"\nthe adapter is in {how.adapter}, with its model card README.md")
    print(f"all of it as one HTML file: seal report {document['run']}; every edit here: seal show {document['run']}")
    print(f'ask it: seal ask {how.adapter} "..." --compare\n')
    print("\n\n".join(f"{what}:\n\n{code}" for what, _, code in card.uses(how.here)))
