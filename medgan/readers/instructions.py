"""What whoever runs a study should know: what is equal in its images, what was measured, and what it can show."""

from medgan.readers import simulate, statistics
from medgan.readers.design import Key

INSTRUCTIONS = "instructions.md"
SEEN = 0.7
"""The true share of right choices for which power is simulated."""


def power_lines(key: Key) -> list[str]:
    """What the study can show, told before anybody reads."""
    task = key.settings.asked[-1]
    trials = sum(trial.role == "scored" and trial.task == task for trial in key.trials)
    subjects = len({trial.subject for trial in key.trials if trial.role == "scored"})
    lines = [f"Each reader answers {trials} trials of {subjects} subjects that count."]
    if task == "find":
        return [*lines, "Detection in real and synthetic images is compared by subject; see docs/reader-study.md."]
    lines += [
        f"One reader shows a true {share:.0%} to differ from chance with {statistics.POWER:.0%} power in "
        f"{statistics.trials_to_see(share)} trials; here with {statistics.power_to_see(share, trials):.0%}."
        for share in (0.65, 0.70)
    ]
    lines += [
        f"To claim chance within ±{100 * margin:.0f} points takes {statistics.trials_to_claim_chance(margin)} trials"
        f"{'' if trials >= statistics.trials_to_claim_chance(margin) else ': more than here'}."
        for margin in (0.10, 0.15)
    ]
    crowds = {readers: simulate.Crowd(readers, subjects) for readers in (3, 6) if subjects > 1}
    powers = [f"{simulate.power(crowd, SEEN):.0%} for {readers}" for readers, crowd in crowds.items()]
    if powers:
        lines.append(
            f"For readers and subjects at large, both random, by simulation: a true {SEEN:.0%} is shown with "
            f"{' and '.join(powers)} readers of these {subjects} subjects."
        )
    return lines


def instructions(key: Key) -> str:
    """What whoever runs the study hands on, and keeps, in Markdown."""
    same, settings = key.equalised, key.settings
    measured = [
        f"- {what}: " + ", ".join(f"{arm} {value:.2f}" for arm, value in values.items())
        for what, values in (
            ("noise before, of 255 greys", same.noise_before), ("noise as shown", same.noise),
            ("grain of noise as shown, .5 is white", same.grain),
            ("sharpness as shown, mean step between pixels in greys", same.sharpness),
        )
    ]  # fmt: skip
    prevalence = "are told" if settings.tell_prevalence else "are not told"
    lines = [
        "# Reader study", "", f"Study `{key.study}`", "",
        "Send readers `study.html` alone. It works offline, in any current browser. They send back the file that it",
        "saves in the end. **Keep `key.json` to yourself**: it says which image is what.", "",
        "With several readers, `medgan reader-study serve` keeps each answer at once.", "",
        "## Equal in all images", "",
        f"- one grid of {same.rows} x {same.columns} pixels of {same.pixel_mm:g} mm, {same.slices} slices "
        f"{same.slice_mm:g} mm apart, {settings.plane}, cut at the same places",
        "- linear interpolation of every image at the same places",
        f"- 8 bit: grey 0 to 255 is {same.lower:g} to {same.upper:g} {same.unit}; first shown {same.window}, "
        f"{same.shown[0]:g} to {same.shown[1]:g} {same.unit}",
        f"- outside of the body: {'black in all' if settings.body_only else 'as it is'}",
        f"- noise: {'added to the smoother image of each pair' if settings.equal_noise else 'as it is'}",
        f"- every file within the page has {same.blob_bytes} bytes, no text and no time", "",
        "## Measured", "", *measured, "", "## Power", "", *(f"- {line}" for line in power_lines(key)), "",
        f"Readers {prevalence} how many images are of which kind.", "",
        *(f"**Note.** {note}" for note in key.notes), "",
    ]  # fmt: skip
    return "\n".join(lines)
