"""Recipes: every shipped one is valid, every mistake is told at once, and what is dumped loads equal."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal.config import Recipe, dump, flat, load, loads, shipped
from seal.config.recipe import POLICY_TUNING, EditTable, ShortlistTable
from seal.domains.arc.table import ArcTable
from seal.errors import UserError
from seal.loops import build
from seal.types import ALL_LINEAR, Bounds, Sampling, Tuning

SHIPPED = sorted(shipped())


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as error:
        loads(text, overrides, source="mine.toml")
    return str(error.value).split("\n")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid_and_round_trips(name):
    recipe = load(name)
    assert recipe.name == name
    assert loads(dump(recipe), source="recipe.toml") == recipe


def test_the_repository_shows_the_shipped_recipes():
    assert {"bundled", "squad", "demo"} <= set(SHIPPED)
    folder = Path(__file__).parents[1] / "recipes"
    assert sorted(path.stem for path in folder.glob("*.toml")) == SHIPPED
    assert load(str(folder / "bundled.toml")) == load("bundled")


def test_squad_is_the_papers_protocol():
    recipe = load("squad")
    outer = recipe.outer
    assert (recipe.model.name, recipe.model.chat) == ("Qwen/Qwen2.5-7B", None)
    assert (outer.rounds, outer.contexts, outer.edits, outer.repeats, outer.fresh) == (2, 50, 5, 3, True)
    assert recipe.tuning == Tuning(32, 64.0, ("q_proj", "v_proj"), 1e-3, 10, 1, "linear", pad_loss="official")
    assert recipe.update.tuning == Tuning(64, 128.0, (ALL_LINEAR,), 3e-4, 2, 10, loss="completion") == POLICY_TUNING
    assert recipe.edit.sampling(5) == Sampling(5, 1.0, 0.95, 8192)
    assert (recipe.select.rule, recipe.select.ties) == ("best_of_group", "first")


def test_an_empty_recipe_is_all_defaults_and_named_after_its_file():
    recipe = loads("", source="some/where/mine.toml")
    assert recipe == Recipe(name="mine")
    assert (recipe.tuning, recipe.bounds, recipe.edit.sampling(1)) == (Tuning(), Bounds(), Sampling())
    assert set(EditTable.model_fields) == {field.name for field in fields(Sampling)} - {"n"}


def test_every_mistake_is_told_at_once_with_the_nearest_key():
    text = """
        sede = 1
        [tuning]
        epohcs = 3
        rank = "many"
        [bounds]
        examples = 0
        [outer]
        rounds = 0
        [domain]
        stile = "implications"
        grader = "recal"
        [eval]
        conditions = ["base", "given"]
        [nowhere]
        x = 1
        """
    assert mistakes(text, "edit.temprature=2", "outer") == [
        "mine.toml: 11 mistakes",
        "  'outer' on the command line: must look like outer.rounds=2",
        "  domain.grader: no grader named 'recal'; did you mean 'recall'?",
        "  domain.stile: unknown; did you mean style?",
        "  edit.temprature: unknown; did you mean temperature? (given on the command line)",
        "  tuning.rank: must be a valid integer, not 'many'",
        "  tuning.epohcs: unknown; did you mean epochs?",
        "  bounds.examples: must be at least 1, not 0",
        "  outer.rounds: must be greater than or equal to 1, not 0",
        "  eval.given: condition 'given' needs a file, or \"teacher\"",
        "  sede: unknown; did you mean seed?",
        f"  nowhere: unknown; known: {', '.join(Recipe.model_fields)}",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tuning]\nlr = 0.0", "tuning.lr: must be above 0, not 0.0"),
        ("[tuning]\ntargets = []", "tuning.targets: must name at least one layer"),
        ("[tuning]\nlr = nan", "tuning.lr: must be a finite number, not nan"),
        ("[update.tuning]\nlayers = 0", "update.tuning.layers: must be at least 1, not 0"),
        ("[update.tuning]\nrnak = 1", "update.tuning.rnak: unknown; did you mean rank?"),
        ("[outer.shortlist]\nsz = 3", "outer.shortlist.sz: unknown; did you mean size?"),
        ("[continual.gate]\nbuond = 1", "continual.gate.buond: unknown; did you mean bound?"),
        ("[continual.gate]\nsurprise = inf", "continual.gate.surprise: must be a finite number, not inf"),
        ("[continual.replay]\nearlier = -1", "continual.replay.earlier: must be greater than or equal to 0, not -1"),
        ("[continual.leash]\nweight = -1", "continual.leash.weight: must be greater than or equal to 0, not -1"),
        ("[continual.null_space]\nrehearsal = -1", "continual.null_space.rehearsal: must be greater than or equal to 0, not -1"),
        ("[continual.superposition]\nshare = 0", "continual.superposition.share: must be greater than 0, not 0"),
        (
            "[continual]\nstrategies = ['gate+null-space']\nguards = 0\nnull_space = {rehearsal = 0}",
            "continual.guards: with none of them, and null_space.rehearsal = 0, null-space has nothing to protect; raise one",
        ),
        (
            "[domain]\ngrader = 'judge'\njudge = {model = 'x', timeot = 3}",
            "domain.judge.timeot: unknown; did you mean timeout?",
        ),
        ("[domain]\ngrader = 'judge'\njudge = {url = 'x'}", "domain.judge.model: Field required"),
        ("[select]\nrule = 'top_fraction'", "select.fraction: goes with rule 'top_fraction', and with no other; set it, as in"),
        (
            "[select]\nfraction = 0.5",
            "select.fraction: goes with rule 'top_fraction', and with no other; leave it out (select.fraction=), or choose",
        ),
        (
            "[select]\nrule = 'gaining'\nfloor = 0.1",
            "select.floor: rule 'gaining' has none; leave it out, or choose best_of_group",
        ),
        (
            "[select]\nrule = 'top_fraction'\nfraction = 0.5\nkeep = 2",
            "select.keep: rule 'top_fraction' has none; leave it out, or choose best_of_group",
        ),
        ("[reward]\naccurcy = 1.0", "reward.accurcy: no reward named 'accurcy'; did you mean 'accuracy'?"),
        ("[domain]\nkind = 'knowlege'", "domain.kind: no domain named 'knowlege'; did you mean 'knowledge'?"),
        ("domain = 3", "domain: must be a table, not 3"),
        ("[domain]\ndata = 3", "domain.data: must be a valid string or must be a table, not 3"),
        ("name = 'a/b'", "name: must be a plain name, not 'a/b'"),
        ("eval.conditions = 'base'", "eval.conditions: must be a list, not 'base'"),
        ("tuning = 3", "tuning: must be a table, not 3"),
        ("a = ", "not TOML: Invalid value (at end of document)"),
    ],
)
def test_a_single_mistake_is_one_line_naming_the_file(text, line):
    (told,) = mistakes(text)
    assert told.startswith(f"mine.toml: {line}")


def test_overrides_are_toml_and_bare_words_are_strings():
    recipe = loads(
        "[eval]\nlimit = 3\ngiven = 'teacher'",
        [
            "model.name=Qwen/Qwen2.5-0.5B",
            "tuning.lr=2e-4",
            "outer.fresh=false",
            'eval.conditions=["base", "seal"]',
            "eval.given=",
            "domain.style=none",
            "domain.data.test=mine.json",
            "update.tuning.rank=8",
            "reward.my.module:brevity=0.5",
        ],
        source="x.toml",
    )
    assert recipe.model.name == "Qwen/Qwen2.5-0.5B"
    assert (recipe.tuning.lr, recipe.outer.fresh) == (2e-4, False)
    assert (recipe.eval.conditions, recipe.eval.given, recipe.eval.limit) == (("base", "seal"), None, 3)
    assert (recipe.domain.style, recipe.domain.data) == ("none", {"test": "mine.json"})
    assert recipe.reward == {"accuracy": 1.0, "my.module:brevity": 0.5}
    assert loads(dump(recipe), source="y.toml") == recipe


def test_a_partly_given_policy_tuning_keeps_the_policys_own_defaults():
    assert loads("[update.tuning]\nrank = 8", source="x.toml").update.tuning == Tuning(
        8, 128.0, (ALL_LINEAR,), 3e-4, 2, 10, loss="completion"
    )


@pytest.mark.parametrize("text", ["", "[reward]\naccuracy = 1.0"])
def test_a_reward_on_the_command_line_comes_to_those_there_are(text):
    """Whether the file names them or they are the default."""
    assert loads(text, ["reward.informs=0.5"], source="x.toml").reward == {"accuracy": 1.0, "informs": 0.5}
    assert loads(text, ["reward.accuracy=0.3"], source="x.toml").reward == {"accuracy": 0.3}
    assert loads(text, ["reward.informs=0.5", "reward.accuracy="], source="x.toml").reward == {"informs": 0.5}
    assert loads(text, ["reward={informs=0.5}"], source="x.toml").reward == {"informs": 0.5}


def test_taking_back_what_is_not_there_changes_nothing():
    assert loads("", ["outer.shortlist.by=", "eval.limit=", "domain.judge.timeout=", "reward.f1="], source="x.toml") == Recipe(
        name="x"
    )
    text = "[outer.shortlist]\nby = 'hints'\nsize = 2"
    assert loads(text, ["outer.shortlist.by="], source="x.toml").outer.shortlist == ShortlistTable(size=2)
    assert loads(text, ["outer.shortlist="], source="x.toml").outer.shortlist is None
    arc = "[domain]\nkind = 'arc'\ndata = 'x.json'"
    assert loads(arc, ["domain.grid="], source="x.toml") == loads(arc, source="x.toml")
    assert isinstance(loads("", ["domain.grid=", "domain.kind=arc"], source="x.toml").domain, ArcTable)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("outer.shortlst=", "outer.shortlst: unknown; did you mean shortlist?"),
        ("outr.shortlist.by=", "outr: unknown; did you mean outer?"),
        ("outer.shortlist.bye=", "outer.shortlist.bye: unknown; did you mean by?"),
        ("limit=", "limit: unknown; did you mean eval.limit, eval.quick.limit or domain.limit?"),
        ("domain.grid=", "domain.grid: unknown; "),
        ("reward.accurcy=", "reward.accurcy: no reward named 'accurcy'; did you mean 'accuracy'?"),
        ("seed.x=", "'seed.x=' on the command line: seed is a value, not a table"),
    ],
)
def test_a_key_that_is_taken_back_and_unknown_is_a_mistake(override, says):
    (line,) = mistakes("seed = 1", override)
    assert line.startswith(f"mine.toml: {says}")
    assert line.endswith("table" if override == "seed.x=" else "(given on the command line)")


def test_an_override_through_a_value_is_a_mistake():
    assert mistakes("seed = 1", "seed.x=1") == ["mine.toml: 'seed.x=1' on the command line: seed is a value, not a table"]
    assert mistakes("", "=1") == ["mine.toml: '=1' on the command line: must look like outer.rounds=2"]


def test_a_mistake_on_the_command_line_is_not_said_to_be_the_files():
    unknown = "mine.toml: outer.round: unknown; did you mean rounds?"
    assert mistakes("", "outer.round=3") == [f"{unknown} (given on the command line)"]
    assert mistakes("", "outer={round=3}") == [f"{unknown} (given on the command line)"]
    assert mistakes("[outer]\nround = 3", "outer.rounds=2") == [unknown]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("rounds=3", "rounds: unknown; did you mean outer.rounds?"),
        ("lr=1e-4", "lr: unknown; did you mean tuning.lr, bounds.lr, update.tuning.lr or adapt.lr?"),
        ("update.lr=1e-4", "update.lr: unknown; did you mean update.tuning.lr?"),
        ("style=none", "style: unknown; did you mean domain.style?"),
        ("domain.at_once=3", "domain.at_once: unknown; did you mean domain.judge.at_once?"),
        ("model=Qwen/Qwen3-4B", "model: must be a table, not 'Qwen/Qwen3-4B'; did you mean model.name=Qwen/Qwen3-4B?"),
        ("update=dpo", "update: must be a table, not 'dpo'; did you mean update.method=dpo?"),
        ("update=dop", "update: must be a table, not 'dop'"),
        ("domain=arc", "domain: must be a table, not 'arc'; did you mean domain.kind=arc?"),
        ("domain=[1]", "domain: must be a table, not [1]"),
    ],
)
def test_a_key_that_is_short_of_its_table_is_told_the_whole_one(override, says):
    assert mistakes("", override) == [f"mine.toml: {says} (given on the command line)"]


def test_a_recipe_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="no recipe named 'bundeld'; did you mean 'bundled'"):
        load("bundeld")
    with pytest.raises(UserError, match="no such file; the one that comes with seal is called 'bundled'"):
        load(str(tmp_path / "bundled.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match="cannot be read as a recipe"):
        load(str(tmp_path / "folder.toml"))


@given(
    st.builds(
        Tuning,
        rank=st.integers(1, 512),
        alpha=st.floats(1e-6, 1e6),
        targets=st.lists(st.text(st.characters(codec="utf-8")), min_size=1).map(tuple),
        lr=st.floats(1e-12, 1.0),
        layers=st.none() | st.integers(1, 99),
    ),
    st.dictionaries(
        st.sampled_from(["accuracy", "f1"]) | st.from_regex(r"[a-z.]{1,5}:[a-z]{1,5}", fullmatch=True),
        st.floats(-9, 9),
        min_size=1,
    ),
)
def test_what_is_dumped_loads_equal(tuning, reward):
    recipe = Recipe(name="x", tuning=tuning, reward=reward)
    assert loads(dump(recipe), source="y.toml") == recipe


# ---- rewards of the edit, questions, passes


@pytest.mark.parametrize("select", ["floor = 0.0", 'rule = "gaining"', 'rule = "solved"'])
def test_a_selection_by_what_a_trial_came_to_needs_a_reward_that_is_measured(select):
    text = f"[reward]\nlength = -0.1\ninforms = 1.0\n{{more}}\n[select]\n{select}"
    with pytest.raises(UserError, match=r"select: .* reward\.gain = 0\.0"):
        build.reward(loads(text.format(more=""), source="mine.toml"))
    assert build.reward(loads(text.format(more="gain = 0.0"), source="mine.toml")).needs_trials


def test_a_rater_is_a_reward_one_can_name():
    recipe = loads('[reward]\nrubric = 1.0\n"mymodule:fn" = 0.1', source="mine.toml")
    assert recipe.reward == {"rubric": 1.0, "mymodule:fn": 0.1}
    with pytest.raises(UserError, match="'halving' shares out trials"):
        build.reward(loads("reward = { length = 1.0 }", ["outer.allocation=halving", "outer.repeats=2"], source="mine.toml"))
    with pytest.raises(UserError, match="did you mean 'informs'"):
        loads("[reward]\ninform = 1.0", source="mine.toml")


def test_a_shortlist_goes_by_what_is_known_before_a_trial():
    recipe = loads("outer.shortlist = { size = 2 }\nreward.accuracy = 1.0", source="mine.toml")
    assert recipe.outer.shortlist == ShortlistTable(by="informs", size=2)
    assert build.reward(recipe).weights == {"informs": 0.0, "accuracy": 1.0}
    assert build.reward(loads(dump(recipe), ["reward.informs=0.5"], source="mine.toml")).weights["informs"] == 0.5
    for by in ("accuracy", "length"):
        with pytest.raises(UserError, match=rf"outer\.shortlist: '{by}' is no rater, .* choose one of rubric, informs"):
            build.reward(loads(f'outer.shortlist.by = "{by}"', source="mine.toml"))
    (line,) = mistakes('outer.shortlist.by = "inform"')
    assert "did you mean 'informs'" in line


def test_questions_and_passes_reach_the_loop(tmp_path):
    recipe = loads(dump(load("bundled-no-labels", ["outer.rounds_on_same=2"])), source="recipe.toml")
    assert (recipe.questions.source, recipe.questions.ways, recipe.questions.most) == ("self", ("spans", "cloze"), 5)
    domain = build.domain(recipe)
    assert build.evaluation(recipe, domain, None).rounds_on_same == 2
    with pytest.raises(UserError, match=r"questions\.ways"):
        load("bundled-no-labels", ['questions.ways=["guess"]'])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["outer.allocation=halving"], "outer.allocation: 'halving' shares out repeats; set repeats to 2 or more"),
        (["outer.allocation=halving", "outer.repeats=2", "select.rule=gaining"], "select.rule 'gaining' compares all edits"),
        (["outer.allocation=halving", "outer.repeats=2", "update.method=weighted"], "'weighted' compares all edits"),
        (["outer.allocation=halving", "outer.repeats=2", "update.method=gradient"], "'gradient' compares all edits"),
        (["outer.allocation=halving", "outer.repeats=2", "update.method=dpo"], "'dpo' compares all edits"),
        (
            ["outer.allocation=halving", "outer.repeats=2", "select.keep=3"],
            "narrows each group to two, and select.keep = 3 would",
        ),
        (["update.beta=0.5"], "update.beta: method 'rest_em' has none; leave it out (update.beta= on the command line), or"),
        (["update.method=dpo", "update.kl=0"], "update.kl: method 'dpo' has none; leave it out"),
        (["update.method=weighted", "update.clip=0.1"], "update.clip: method 'weighted' has none; leave it out"),
        (
            ["update.method=gradient", "reward.accuracy=0"],
            "reward: every weight is 0, and update.method 'gradient' learns nothing",
        ),
        (
            ["outer.edits=3", "outer.shortlist.size=4"],
            "outer.shortlist: cannot try 4 edits of each problem where outer.edits = 3",
        ),
        (["update.method=dpo", "update.tuning.tokens=2000", "update.tuning.steps=20"], "'dpo' learns from pairs"),
        (["update.method=dpo", "update.tuning.pad_loss=official"], "would count its padding"),
        (["update.method=gradient", "update.tuning.pad_loss=official"], "would count its padding"),
        (["eval.tokens=10", "eval.steps=20"], "eval.steps: must be at most the tokens (10)"),
        (["eval.match=tokens", "tuning.pad_loss=official"], "'official' trains on padding"),
        (["eval.match=steps"], "eval.match: must be 'tokens'"),
        (["domain={kind='arc', codec='paper', plan='paper'}"], "domain.codec: 'paper' puts the example pairs into a chat"),
        (["domain={kind='arc'}", "eval.mode=continued"], "eval: mode 'continued' has one training for all, and here each plan"),
        (["tuning.pad_length=wide"], "tuning.pad_length: must be a valid integer or must be 'longest', not 'wide'"),
        (["tuning.lr=true"], "tuning.lr: must be a number, not true (given on the command line)"),
        (["tuning.lr='0.5'"], 'tuning.lr: must be a number, not "0.5"'),
        (["outer.rounds=false"], "outer.rounds: must be a number, not false"),
        (["domain.limit=true"], "domain.limit: must be a number, not true"),
        (["outer.shortlist={size=true}"], "outer.shortlist.size: must be a number, not true"),
        (["eval.curve=[64, '128']"], 'eval.curve: must be a number, not "128"'),
        (["reward.gain=true"], "reward.gain: must be a number, not true"),
        (["bounds.lr=['1e-4', 1e-2]"], 'bounds.lr: must be a number, not "1e-4"'),
        (["tuning.pad_length='64'"], 'tuning.pad_length: must be a number, not "64"'),
        (["continual.replay.earlier='2'"], 'continual.replay.earlier: must be a number, not "2"'),
        (["tuning.pad_length=0"], "tuning.pad_length: must be at least 1, not 0"),
        (["tuning.tokens=100"], "tuning.tokens: goes together with steps"),
        (["tuning.tokens=100", "tuning.steps=200"], "must be at least as many"),
        (["tuning.tokens=100", "tuning.steps=2", "tuning.pad_loss=official"], "tuning.tokens: pad_loss"),
    ],
)
def test_what_does_not_go_together_is_said(overrides, says):
    (line,) = mistakes("", *overrides)
    assert says in line


def test_what_may_be_true_or_a_word_still_may():
    given = ("outer.fresh=false", "model.chat=true", "domain.plan=true", "domain.train_on_passage='sentences'", "model.name='7'")
    recipe = loads("", [*given, "tuning.pad_length='longest'", "outer.rounds=2.0", "tuning.lr=1"], source="mine.toml")
    assert (recipe.outer.fresh, recipe.model.chat, recipe.model.name, recipe.tuning.pad_length) == (False, True, "7", "longest")
    assert (recipe.domain.train_on_passage, recipe.domain.plan) == ("sentences", True)
    assert loads("", ["domain.train_on_passage=true"], source="mine.toml").domain.train_on_passage is True


def test_what_only_looks_like_a_mistake_is_none():
    """A reward of nothing under rest_em is a control, a shortlist of all leaves out what cannot be rated."""
    loads("", ["reward={accuracy=0.0}"], source="mine.toml")
    loads("", ["outer.shortlist.size=4", "outer.edits=4"], source="mine.toml")
    loads("update.beta = 0.5", ["update.method=rest_em", "update.beta="], source="mine.toml")


def test_a_rooted_recipe_is_the_same_from_every_folder(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    data = "data = { train = 'a.json', dev = '/b.json', test = 'bundled' }"
    recipe = loads(f"model.name = 'model'\neval.given = 'sub/c.json'\n[domain]\n{data}", source="x.toml").rooted(tmp_path)
    assert recipe.model.name == str(tmp_path / "model")
    assert recipe.eval.given == str(tmp_path / "sub" / "c.json")
    assert recipe.domain.data == {"train": str(tmp_path / "a.json"), "dev": "/b.json", "test": "bundled"}
    assert recipe.rooted(tmp_path / "elsewhere") == recipe
    for name in SHIPPED:
        assert load(name).rooted(tmp_path) == load(name)  # names stay names
    for folder in ("smollm2-135m", "arc-embedded"):
        (tmp_path / folder).mkdir()
    named = load("arc-embedded").rooted(tmp_path)  # also where a folder is called so: what opens them prefers the name
    assert (named.model.name, named.eval.policy) == ("smollm2-135m", "arc-embedded")


def test_a_judges_cache_is_kept_by_its_whole_path(tmp_path):
    text = "[domain]\ngrader = 'judge'\njudge = { model = 'any', cache = 'verdicts.db' }"
    assert loads(text, source="x.toml").rooted(tmp_path).domain.judge.cache == str(tmp_path / "verdicts.db")
    plain = "[domain]\ngrader = 'judge'\njudge = { model = 'any' }"
    assert loads(plain, source="x.toml").rooted(tmp_path).domain.judge.cache is None


def test_a_rooted_puzzle_recipe_has_its_files_by_whole_paths(tmp_path):
    (tmp_path / "policy").mkdir()
    text = "eval.policy = 'policy'\n[domain]\nkind = 'arc'\ndata = 'solvable.json'\npool = 'puzzles'"
    recipe = loads(text, source="x.toml").rooted(tmp_path)
    assert recipe.eval.policy == str(tmp_path / "policy")
    assert (recipe.domain.data, recipe.domain.pool) == (str(tmp_path / "solvable.json"), str(tmp_path / "puzzles"))
    splits = "[domain]\nkind = 'arc'\ndata = { train = ['6150a2bd'], dev = 'arc-agi-2', test = 'mine.json' }"
    data = loads(splits, source="x.toml").rooted(tmp_path).domain.data
    assert data == {"train": ("6150a2bd",), "dev": "arc-agi-2", "test": str(tmp_path / "mine.json")}


def test_a_recipe_is_flat_by_the_keys_of_overrides() -> None:
    assert flat({"a": {"b": {"c": 1.5}}, "d": True, "e": [1]}) == {"a.b.c": 1.5, "d": True, "e": [1]}
