"""What README and docs show is there: commands, files and links; and what is cheap to run works."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer
from cli_models import mlp, renumber_mlp
from safetensors.numpy import load_file, save_file

from rebasin_hub.app import app
from rebasin_hub.recipefile import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("specs/*.md"))
    if page.name != "CHANGELOG.md"
)
USAGE = typer.BadParameter.__base__
"""What wrong usage raises, whichever click typer brings."""
COMMAND = re.compile(r"^\$ (?:\w+=\S+ )*rebasin-hub (.*)$", re.MULTILINE)


@cache
def text_of(page):
    return page.read_text(encoding="utf-8")


def commands(text):
    """Return the arguments of each command that a page shows at a prompt."""
    found = []
    for line in COMMAND.findall(text.replace("\\\n", " ")):
        words = shlex.split(re.split(r"\s{4,}", line)[0])  # what a command does may stand behind it
        ends = [words.index(end) for end in ("|", ">", "&&") if end in words]
        found.append(words[: min(ends, default=None)])
    return found


@cache
def program():
    return typer.main.get_command(app)


def parse(words):
    """Let the program parse a command without running it; raise what it finds wrong."""
    command = program()
    context = command.context_class(command, info_name="rebasin-hub")
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.context_class(command, info_name=name, parent=context)
    command.make_context(context.info_name, list(words), parent=context.parent)


def every_command():
    """Yield the words and the command of everything that can be run."""
    root = program()
    to_do = [((), root, root.context_class(root))]
    while to_do:
        words, command, context = to_do.pop()
        if not hasattr(command, "list_commands"):
            yield words, command
            continue
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            to_do.append(((*words, name), inner, inner.context_class(inner, parent=context)))


SHOWN = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {shlex.join(words)}"[:120])
    for page in PAGES
    for words in commands(text_of(page))
]


@pytest.mark.parametrize("words", SHOWN)
def test_every_command_that_is_shown_is_taken(words):
    parse(words)


def test_commands_that_are_wrong_are_noticed():
    assert len(SHOWN) > 80
    for words in (["aling", "a", "b"], ["align", "a", "b", "--nosuch"], ["apply", "a"]):
        with pytest.raises(USAGE):
            parse(words)


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in every_command()]
)
def test_every_command_has_an_example_and_names_for_its_arguments(words, command):
    example = re.fullmatch(r"Example: `rebasin-hub (.*)`", command.epilog or "")
    assert example, words
    shown = shlex.split(example[1])
    assert tuple(shown[: len(words)]) == words
    parse(shown[: shown.index(">")] if ">" in shown else shown)
    for parameter in command.params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "argument":
            assert parameter.metavar == parameter.metavar.upper() or "…" in parameter.metavar


def anchor(heading):
    """Return the anchor that a Markdown heading has on the usual sites."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^(`{3,}).*?^\1", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert heading in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_and_results_that_are_named_are_there(page):
    for script in re.findall(r"`(?:benchmarks/)?(bench_\w+\.py)", text_of(page)):
        assert (ROOT / "benchmarks" / script).is_file(), script
    for results in re.findall(r"`(\d{4}-\d\d-\d\d-\w+\.json)`", text_of(page)):
        assert (ROOT / "benchmarks" / "results" / results).is_file(), results


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_place_on_somebodys_machine(page):
    assert not re.search(r"(?<![\w.])/(?:tmp|home|root|work|Users)/", text_of(page))


def test_the_readmes_first_example_runs(run, gpt2_folder):
    folder = gpt2_folder("MiniLM")
    (example,) = re.findall(r"## A first example(.*?)\n## ", text_of(ROOT / "README.md"), re.DOTALL)
    shown = commands(example)
    assert [words[0] for words in shown] == [
        "canonicalize", "align", "apply", "digest", "verify", "merge",
    ]  # fmt: skip
    for words in shown:
        run(*words, "--spec", "gpt2-encoder")
    digests = [line.split()[0] for line in run("digest", "MiniLM", "shuffled", "--spec",
        "gpt2-encoder").out.splitlines()]  # fmt: skip
    assert digests[0] == digests[1]
    for shard in folder.glob("*.safetensors"):
        assert shard.read_bytes() == (folder.parent / "back" / shard.name).read_bytes()


def test_the_registrys_page_runs_from_top_to_bottom(run, models, monkeypatch):
    monkeypatch.setenv("REBASIN_REGISTRY", str(models / "registry"))
    base = mlp(0, (64, 48, 48, 10))
    save_file(base, models / "base.safetensors")
    save_file(renumber_mlp(base, seed=1), models / "found.safetensors")
    save_file({n: t * 1.0001 for n, t in base.items()}, models / "tuned.safetensors")
    save_file(mlp(1, (64, 48, 48, 10)), models / "other.safetensors")
    shown = commands(text_of(ROOT / "docs" / "registry.md"))
    assert len(shown) > 6
    outputs = {shlex.join(words): run(*words).out for words in shown}
    assert outputs["registry which found.safetensors"] == "digits:1  renumbered  @best\n"
    assert "kept as a difference to digits:1" in outputs[shlex.join(shown[-2])]
    assert "stored plainly" in outputs[shlex.join(shown[-1])]


def test_the_recipes_of_the_merging_page_are_taken(run, models):
    shown = re.findall(r"```yaml\n(.*?)```", text_of(ROOT / "docs" / "merging.md"), re.DOTALL)
    recipe, ours = shown
    for name in "ab":
        tensors = load_file(models / f"{name}.safetensors")
        save_file({f"layers.{n[2]}{n[3:]}": t for n, t in tensors.items()},
                  models / f"{name}.safetensors")  # fmt: skip
    (models / "recipe.yaml").write_text(recipe, encoding="utf-8")
    assert (
        "0.8, 0.2 in layers.1.weight"
        in run("merge", "recipe.yaml", "-o", "merged.safetensors", "--dry-run").out
    )
    run("merge", "recipe.yaml", "-o", "merged.safetensors")
    models_alone = (
        "models: [{model: a.safetensors}, {model: b.safetensors}]\nmerge_method: linear\n"
    )
    (models / "ours.yaml").write_text(models_alone + ours, encoding="utf-8")
    read = load_recipe(models / "ours.yaml")
    assert read.align.strategy == "merge-many"
    assert read.repair == "recompute"
