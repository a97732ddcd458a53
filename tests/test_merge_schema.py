"""The JSON Schema of recipes is the one that is shipped, and holds for recipes."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from rebasin_hub.recipefile import SCHEMA_ID, RecipeModel, load_recipe
from rebasin_hub.yamlfile import json_schema, schema_text

SHIPPED = Path(__file__).parents[1] / "schemas" / "recipe.schema.json"
GOOD = """\
models:
  - model: a
    parameters: {weight: [{filter: mlp, value: [0, 1]}, {value: 0.5}]}
  - model: b
    parameters: {weight: 1}
merge_method: linear
base_model: a
parameters: {normalize: false}
dtype: bfloat16
rebasin:
  align: {strategy: merge-many, seed: 3}
  task: {name: digits, limit: 100}
  repair: recompute
"""
BAD = (
    "slices: []",
    "modles: []",
    "dtype: int8",
    "parameters: {density: 1}",
    "rebasin: {align: 3}",
)


def test_the_shipped_schema_is_that_of_the_model():
    text = SHIPPED.read_text(encoding="utf-8")
    assert text == schema_text(RecipeModel, SCHEMA_ID), "python -m rebasin_hub.recipefile"


def test_the_schema_takes_what_the_reader_takes(tmp_path):
    (tmp_path / "r.yaml").write_text(GOOD)
    read = load_recipe(tmp_path / "r.yaml")
    assert read.dtype == "BF16"
    assert read.align.strategy == "merge-many"
    jsonschema.validate(yaml.safe_load(GOOD), json_schema(RecipeModel, SCHEMA_ID))


@pytest.mark.parametrize("line", BAD)
def test_the_schema_refuses_what_the_reader_refuses(line):
    content = {**yaml.safe_load(GOOD), **yaml.safe_load(line)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json_schema(RecipeModel, SCHEMA_ID))
