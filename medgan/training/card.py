"""The model card: what a model does, what it was trained on, and what it must not be used for."""

from medgan.training.model_folder import ModelDescription

TEMPLATE = """# {name}: {source} to {target}

Trained by medgan {medgan}; {networks}. **Not a medical device: for research only, not for diagnosis.**

| | |
|---|---|
| Translates | {directions} |
| Grid | {spacing} |
| Input | {dimensions} |
| Window | {lower:g} to {upper:g} |
| Training subjects | {trained} train, {validated} validation; {data} |
| Split | `{split}` |
| Networks kept | averages after epoch {epoch} |
{metrics}

Convert studies with `medgan convert INPUT OUTPUT --model THIS_FOLDER`. Judge the result on subjects outside the
split with `medgan evaluate`: the figures above chose the epoch and are no evidence of benefit.
"""


def model_card(description: ModelDescription, *, trained: int, validated: int) -> str:
    """The card as Markdown.

    Args:
        description: The model.
        trained: Number of training subjects.
        validated: Number of validation subjects.
    """
    source, target = description.pair.source, description.pair.target
    spacing = ["own" if size is None else f"{size:g} mm" for size in description.grid.spacing_mm]
    return TEMPLATE.format(
        name=description.name,
        source=source.name,
        target=target.name,
        medgan=description.versions["medgan"],
        networks=f"generator {description.generator.network.kind}, change map {description.generator.change}",
        directions=", ".join(description.directions),
        spacing=" x ".join(spacing),
        dimensions=f"{description.patch.dimensions}D, of {' x '.join(map(str, description.patch.shape))} voxels",
        lower=source.window.lower,
        upper=source.window.upper,
        trained=trained,
        validated=validated,
        data="the built-in digital phantom, no patient" if description.phantom else "real studies",
        split=description.split_hash[:12],
        epoch=description.epoch,
        metrics="\n".join(f"| `{key}` | {value:.4g} |" for key, value in sorted(description.metrics.items())),
    )
