"""What lab 7 shows: its solved notebook for three seeds, and the medians of what came of it."""

import time

from benchmarks.measure import Numbers, at_least, at_most, medians, targets
from benchmarks.notebooks import names_of
from fmlab.autoencoders import collapsed


@targets(
    at_most("autoencoder, error", 15, "one"),
    at_most("autoencoder, dead latents", 0.0, "one"),
    at_least("autoencoder, recognised", 0.99, "one"),
    at_least("64 directions, error", 2.5, "autoencoder, error"),
    at_least("U-Net, w = 1, recognised", 0.93, "one"),
    at_least("U-Net, w = 2, recognised", 0.985, "one"),
    at_most("U-Net, w = 1, feature distance", 0.06, "one"),
    at_least("transformer, w = 1, recognised", 0.92, "one"),
    at_least("transformer, w = 2, recognised", 0.98, "one"),
    at_most("transformer, w = 1, feature distance", 0.06, "one"),
    at_most("pixel U-Net, recognised", 0.5, "one"),
    at_least("pixels, CPU seconds a letter", 12, "latents, CPU seconds a letter"),
    at_most("without places, recognised", 0.45, "one"),
    at_most("same noise, two networks", 0.55, "other noise, same letter"),
    at_most("drawn, nearest", 1.15, "held out, nearest"),
    at_least("drawn, nearest", 0.85, "held out, nearest"),
)
def letters(quick: bool) -> Numbers:
    """Lab 7, solved, for three seeds: medians of errors, shares recognised and distances"""
    return medians(lambda seed, quick: one_run(names_of("lab7", seed, steps=2 if quick else None)), quick)


def one_run(lab: dict) -> Numbers:
    new, again = lab["new_images"], lab["by_vae"](lab["new_images"])
    found = {
        "autoencoder, error": lab["squared_error"](new, again),
        "autoencoder, dead latents": float(collapsed(*lab["vae"].encode(new)).sum()),
        "autoencoder, recognised": lab["recognised"](again, lab["new_letters"]),
        "64 directions, error": lab["squared_error"](new, lab["by_pca"](new)),
        "pixel U-Net, recognised": lab["recognised"](lab["from_pixels"], lab["asked"][:100]),
        "pixel U-Net, feature distance": lab["feature_distance"](lab["from_pixels"]),
        "without places, recognised": lab["recognised"](lab["from_lost"], lab["asked"]),
        "without places, feature distance": lab["feature_distance"](lab["from_lost"]),
        "same noise, two networks": float(lab["same"]),
        "other noise, same letter": float(lab["other"]),
        "drawn, nearest": float(lab["drawn"]),
        "held out, nearest": float(lab["real"]),
    }
    for name, drawn in {"U-Net": lab["from_unet"], "transformer": lab["from_transformer"]}.items():
        for w in (1.0, 2.0):
            found[f"{name}, w = {w:g}, recognised"] = lab["recognised"](drawn[w], lab["asked"])
            found[f"{name}, w = {w:g}, feature distance"] = lab["feature_distance"](drawn[w])
    in_pixels, in_latents = lab["fixed_noise"](50, 1, 32, 32), lab["fixed_noise"](500, 4, 4, 4)
    found["pixels, CPU seconds a letter"] = cpu(lambda: lab["draw"](lab["pixel_unet"], in_pixels)) / 50
    found["latents, CPU seconds a letter"] = cpu(lambda: lab["draw_letters"](lab["unet"], in_latents)) / 500
    return found


def cpu(work) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin
