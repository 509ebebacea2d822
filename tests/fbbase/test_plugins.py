"""Plug-ins are classes of a base: what is missing or misspelt is refused when one is loaded, options are declared."""

import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import pytest

from fbbase.errors import FbError, UnknownNameError
from fbbase.plugins import Plugins


class Dish(ABC):
    """A base class, as a kind of plug-ins has one."""

    is_hot: ClassVar[bool] = False
    suffix: ClassVar[str]
    minutes: ClassVar[float] = 1.0

    @abstractmethod
    def cook(self) -> str: ...


class Served(Dish):
    """A further base of the same kind."""

    plates: ClassVar[int]

    def serve(self) -> int:
        return self.plates


GOOD = """
from dataclasses import dataclass
from fbbase.options import option
from test_plugins_base import Dish

@dataclass(frozen=True)
class Soup(Dish):
    is_hot = True
    suffix = ".soup"
    salt: float = option(0.5, "salt in grams", least=0, most=10)
    bowls: int = option(2, "bowls to fill", above=0)

    def cook(self):
        return f"{self.salt:g} g in {self.bowls}" + self._end()

    def _end(self):
        return "."
"""


@pytest.fixture
def dishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins[Dish]:
    package = tmp_path / "dishes"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "hot_soup.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_plugins_base", sys.modules[__name__])
    for name in [name for name in sys.modules if name.partition(".")[0] == "dishes"]:
        monkeypatch.delitem(sys.modules, name)
    return Plugins("dish", "dishes", base=Dish)


def change(dishes: Plugins[Dish], old: str, new: str) -> None:
    path = dishes.path("hot-soup")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_plug_in_is_made_with_its_options(dishes: Plugins[Dish]) -> None:
    assert dishes.load("hot-soup").cook() == "0.5 g in 2."
    assert dishes.load("hot-soup", salt=2, bowls=3).cook() == "2 g in 3."
    assert dishes.find("hot-soup").is_hot


def test_options_are_known_without_importing_anything(dishes: Plugins[Dish]) -> None:
    found = dishes.options()
    assert "dishes.hot_soup" not in sys.modules
    assert {name: [(of, o.type, o.default, o.help, o.flag) for of, o in each] for name, each in found.items()} == {
        "salt": [("hot-soup", float, 0.5, "salt in grams", "--salt")],
        "bowls": [("hot-soup", int, 2, "bowls to fill", "--bowls")],
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"salt": 11}, "--salt must be between 0 and 10, not 11"),
        ({"salt": -1.0}, "--salt must be between 0 and 10, not -1.0"),
        ({"salt": float("nan")}, "--salt must be between 0 and 10, not nan"),
        ({"salt": "much"}, "--salt must be of type float, not much"),
        ({"bowls": 0}, "--bowls must be a positive number, not 0"),
        ({"bowls": 1.5}, "--bowls must be a whole number, not 1.5"),
        ({"bowl": 1}, r"dish 'hot-soup' has no option --bowl; it has --salt, --bowls. Did you mean '--bowls'\?"),
    ],
)
def test_a_wrong_option_is_named_as_it_is_typed(dishes: Plugins[Dish], options: dict[str, float], words: str) -> None:
    with pytest.raises(FbError, match=words):
        dishes.load("hot-soup", **options)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("is_hot", "is_hott", r"has 'is_hott', which Dish does not know. Did you mean 'is_hot'\?"),
        ("is_hot = True", 'is_hot = "yes"', "'is_hot' must be of type bool, and is 'yes'"),
        ('suffix = ".soup"', "minutes = 2", "lacks 'suffix', which every Dish has"),
        ("def cook", "def bake", r"has 'bake', which Dish does not know"),
        ("def cook", "def _cook", "lacks 'cook', which every Dish has"),
        ("class Soup(Dish)", "class Soup", r"must hold one class that derives from .*Dish, and holds 0"),
        ("@dataclass(frozen=True)", "", "has an option 'salt' but is no dataclass; add @dataclass"),
        ("import option", "import option\nimport nobody_has_this", "needs the package 'nobody_has_this'"),
    ],
)
def test_what_does_not_fit_its_base_is_an_error_at_load(dishes: Plugins[Dish], old: str, new: str, words: str) -> None:
    change(dishes, old, new)
    with pytest.raises(FbError, match=words):
        dishes.load("hot-soup")


SAUCE = """
from dataclasses import dataclass
from fbbase.options import option
from dishes.hot_soup import Soup

@dataclass(frozen=True)
class Sauce(Soup):
    salt: float = option(3, "salt in spoons", above=0, below=5)
    pepper: int | None = option(None, "corns of pepper", least=1)
    heat: float = option(1.0, "heat")
"""


def test_options_of_a_base_beside_it_are_a_plug_ins_too(dishes: Plugins[Dish]) -> None:
    dishes.path("hot-soup").with_name("sauce.py").write_text(SAUCE)
    found = dishes.options()
    assert {name: [of for of, _ in each] for name, each in found.items()} == {
        "salt": ["hot-soup", "sauce"],
        "bowls": ["hot-soup", "sauce"],
        "pepper": ["sauce"],
        "heat": ["sauce"],
    }
    assert [(o.type, o.default) for _, o in (*found["salt"], *found["pepper"])] == [
        (float, 0.5),
        (float, 3),
        (int, None),
    ]
    assert dishes.load("sauce", pepper=None, salt=2).cook() == "2 g in 2."
    assert dishes.load_with("sauce", {"salt": 2.5, "alpha": 1}).cook() == "2.5 g in 2."
    for name, value, words in (
        ("salt", 5, "--salt must be between 0 and 5, neither of them, not 5"),
        ("pepper", 0, "--pepper must be at least 1, not 0"),
        ("heat", float("inf"), "--heat must be a finite number, not inf"),
    ):
        with pytest.raises(FbError, match=words):
            dishes.load("sauce", **{name: value})


def test_a_capability_is_read_without_importing_anything(dishes: Plugins[Dish]) -> None:
    assert dishes.declared("suffix") == {"hot-soup": ".soup"}
    assert dishes.declared("minutes") == {}
    assert "dishes.hot_soup" not in sys.modules


def test_a_kind_may_have_further_bases_beside_the_first(dishes: Plugins[Dish], monkeypatch: pytest.MonkeyPatch) -> None:
    change(dishes, "Soup(Dish)", "Soup(Served)")
    change(dishes, "import Dish", "import Served")
    with pytest.raises(FbError, match="lacks 'plates', which every Dish has"):
        dishes.load("hot-soup")
    monkeypatch.delitem(sys.modules, "dishes.hot_soup")
    change(dishes, "    is_hot = True", "    is_hot = True\n    plates = 2")
    assert dishes.load("hot-soup").serve() == 2  # type: ignore[attr-defined]


def test_an_option_that_is_no_literal_is_named_with_its_line(dishes: Plugins[Dish]) -> None:
    change(dishes, "option(2,", "option(1 + dict(),")
    with pytest.raises(FbError, match=r"hot_soup.py, line 11: an option is written NAME: TYPE = option"):
        dishes.options()


def test_a_default_that_is_none_is_named_with_its_line(dishes: Plugins[Dish]) -> None:
    change(dishes, "option(2,", 'option("two",')
    with pytest.raises(FbError, match=r"hot_soup.py, line 11: the default of --bowls must be of type int, not two"):
        dishes.options()


def test_a_file_that_is_no_python_hinders_only_whom_it_is_loaded_for(dishes: Plugins[Dish], tmp_path: Path) -> None:
    (tmp_path / "dishes" / "burnt.py").write_text("def (\n")
    assert dishes.names() == ["burnt", "hot-soup"]
    assert list(dishes.options()) == ["salt", "bowls"]
    assert dishes.declared("is_hot") == {"hot-soup": True}
    assert dishes.load("hot-soup").cook() == "0.5 g in 2."
    with pytest.raises(FbError, match=r"dish 'burnt' is no Python: .*burnt.py, line 1: .*; mend the file"):
        dishes.load("burnt")


def test_an_unknown_name_suggests_the_nearest(dishes: Plugins[Dish]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown dish 'hot-sou'. Did you mean 'hot-soup'\? Known: hot-soup"):
        dishes.load("hot-sou")


def test_packages_outside_join_by_entry_point(
    dishes: Plugins[Dish], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "__init__.py").write_text(GOOD.replace("Soup", "Stew") + GOOD.replace("Soup", "Broth"))
    (outside / "single.py").write_text(GOOD.replace("grams", "pinches"))
    (outside / "grown-up.toml").write_text("x = 1")
    info = tmp_path / "outside-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[dishes]\nbroth = outside:Broth\nsingle = outside.single\nboth = outside\ngrown-up = outside\n"
    )
    for name in ("outside", "outside.single"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert dishes.names() == ["both", "broth", "grown-up", "hot-soup", "single"]
    assert dishes.load("broth", salt=1.0).cook() == "1 g in 2."
    assert dishes.load("single").cook() == "0.5 g in 2."
    assert ("single", "salt in pinches") in [(of, option.help) for of, option in dishes.options()["salt"]]
    with pytest.raises(FbError, match=r"outside must hold one class that derives from .*Dish, and holds 2"):
        dishes.load("both")
    recipes = Plugins("recipe", "dishes", ".toml", base=Dish)
    assert recipes.path("grown-up").read_text() == "x = 1"
    with pytest.raises(FbError, match=r"the entry point of recipe 'both' names outside, which has no both.toml"):
        recipes.path("both")
