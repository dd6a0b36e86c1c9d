"""The suite: its folders mirror the rooms. From here on, whatever is imported of srdist checks its shapes."""

from jaxtyping import install_import_hook

from tests import shapes

install_import_hook(shapes.modules(), f"{shapes.__name__}.{shapes.checked.__name__}")
