"""Templates of pages: text in them is escaped, and JSON cannot end the script that it stands in."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup


def template(name: str, package: str = "medgan.report") -> Template:
    """A template that lies in a package; a value that it is not given is an error."""
    environment = Environment(loader=PackageLoader(package, "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name)


def in_script(json: str) -> Markup:
    """JSON as it may stand within an element of a page."""
    return Markup(json.replace("<", "\\u003c"))
