from __future__ import annotations

import pytest

from local_azure.functions_host.route_template import parse_route


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("api/status", "api/status", {}),
        ("api/status", "API/Status/", {}),
        ("/api/status/", "api/status", {}),
        ("api/status/{name}", "api/status/a.pfx", {"name": "a.pfx"}),
        ("api/status/{name}", "api/status/a%20b%2Fc", {"name": "a b/c"}),
        ("api/{kind}/{id:int}", "api/item/42", {"kind": "item", "id": "42"}),
        ("api/{id?}", "api", {}),
        ("api/{id?}", "api/1", {"id": "1"}),
        ("api/{*rest}", "api/a/b/c", {"rest": "a/b/c"}),
        ("api/{**rest}", "api", {}),
        ("api/{page=1}", "api", {"page": "1"}),
        ("api/{page=1}", "api/2", {"page": "2"}),
        ("api/{name}.{ext}", "api/shop.pfx", {"name": "shop", "ext": "pfx"}),
        ("api/v{version:int}/x", "api/v2/x", {"version": "2"}),
        ("{id:guid}", "3fa85f64-5717-4562-b3fc-2c963f66afa6", {"id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}),
        ("", "", {}),
    ],
)
def test_a_path_gives_the_parameters_of_the_template_it_matches(
    template: str, path: str, values: dict[str, str]
) -> None:
    assert parse_route(template).match(path) == values


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("api/status", "api/statuses"),
        ("api/status", "api"),
        ("api/{name}", "api"),
        ("api/{name}", "api/a/b"),
        ("api/{id:int}", "api/x"),
        ("api/{flag:bool}", "api/yes"),
        ("api.v1", "apixv1"),
    ],
)
def test_another_path_does_not_match(template: str, path: str) -> None:
    assert parse_route(template).match(path) is None


def test_a_literal_comes_before_a_constraint_before_any_value_before_the_rest() -> None:
    templates = ["api/{*rest}", "api/{name}", "api/{id:int}", "api/status"]
    ordered = sorted((parse_route(template) for template in templates), key=lambda route: route.precedence)
    assert [route.template for route in ordered] == templates[::-1]


@pytest.mark.parametrize(("template", "reason"), [("a/{b", "brace"), ("a/b}", "brace"), ("{a:odd}", "'odd'")])
def test_a_template_that_makes_no_sense_says_why(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_route(template)
