"""Spoken digits as sequences of log-mel features. Needs no PyTorch.

The Free Spoken Digit Dataset: 3,000 recordings, 8 kHz, of six speakers.
"""

from __future__ import annotations

import hashlib
import io
import re
import wave
import zipfile
from pathlib import Path

import numpy as np

from drawbar.gen.errors import InputError
from drawbar.sw.compress.data import Dataset, data_folder

NAME = "fsdd"
RATE = 8_000
#: Samples of a frame, and from one to the next.
FRAME, HOP = 256, 128
#: Bands of the mel scale between these frequencies.
BANDS, LOWEST, HIGHEST = 32, 60.0, 4_000.0
#: Powers of ten, below the loudest band of a recording, that a feature tells apart.
DECADES = 6.0
#: Frames of a step, and steps of a sequence: 1.02 s. What is longer loses its beginning.
FRAMES, STEPS = 2, 32
FEATURES = FRAMES * BANDS
#: SHA-256 over the names and the samples of all recordings.
DIGEST = "c508ca40e62214f8ea81451ff705df6e9a68265da606e26d5455a6a8d1e5bf81"
#: The data set's own split: recordings of these numbers are for tests.
TEST_NUMBERS = range(5)


def load_speech(directory: str | Path | None = None, *, verify: bool = True) -> Dataset:
    """The data set with ``log_mel`` features, a sequence ``(STEPS, FEATURES)`` flat in each row.

    Arguments
    ---------
    directory:
        The folder of ``recordings.zip``, or the one above it (``fsdd/``); without it the
        environment's ``DRAWBAR_DATA``.
    verify:
        Whether the recordings must be the published ones.

    Raises
    ------
    InputError:
        no folder or file, a damaged one, or one that fails its checksum.
    """
    path = data_folder(NAME, directory) / "recordings.zip"
    recordings = _recordings(path)
    digest = hashlib.sha256()
    for name, samples in recordings:
        digest.update(name.encode() + samples.tobytes())
    if verify and digest.hexdigest() != DIGEST:
        raise InputError(
            f"data file {path}",
            f"has the checksum {DIGEST[:16]}... of the published recordings",
            f"{digest.hexdigest()[:16]}...",
            "download the original file again",
        )
    x = np.stack([log_mel(samples) for _, samples in recordings]).reshape(len(recordings), -1)
    fields = [name.split("_") for name, _ in recordings]
    y = np.array([int(digit) for digit, _, _ in fields], np.int64)
    test = np.array([int(number) in TEST_NUMBERS for _, _, number in fields])
    return Dataset(NAME, x[~test], y[~test], x[test], y[test], classes=10)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Features of one recording, float32 ``(STEPS, FEATURES)``, 0 to 1; a step is ``FRAMES`` frames
    of ``BANDS`` bands.

    The logarithm of each band's power, from ``DECADES`` powers of ten below the recording's loudest
    band (0) to that (1). A shorter recording is preceded by zeros.
    """
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, FRAME - len(samples))))
    starts = np.arange(0, len(padded) - FRAME + 1, HOP)
    frames = padded[starts[:, None] + np.arange(FRAME)] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _mel_bands().T
    loudest = power.max()
    if loudest > 0:
        level = 1 + np.log10(np.maximum(power / loudest, 10.0**-DECADES)) / DECADES
    else:
        level = np.zeros_like(power)
    whole = np.zeros((STEPS * FRAMES, BANDS), np.float32)
    level = level[-len(whole) :]
    whole[len(whole) - len(level) :] = level
    return whole.reshape(STEPS, FEATURES)


def _mel_bands() -> np.ndarray:
    """Triangles over the spectrum's bins, ``(BANDS, bins)``, evenly spaced on the mel scale
    (2595 log10(1 + f / 700)).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _recordings(path: Path) -> list[tuple[str, np.ndarray]]:
    """Names ``digit_speaker_number`` and samples, by name."""
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                match = re.fullmatch(r"(?:.*/)?(\d_[a-z]+_\d+)\.wav", name)
                if match is None:
                    continue
                with wave.open(io.BytesIO(archive.read(name))) as sound:
                    kind = (sound.getframerate(), sound.getnchannels(), sound.getsampwidth())
                    if kind != (RATE, 1, 2):
                        raise wave.Error(f"{name}: {kind} instead of {(RATE, 1, 2)}")
                    samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
                found.append((match[1], samples))
    except FileNotFoundError:
        raise InputError(
            f"data file {path}", "exists", "no such file", "put recordings.zip there"
        ) from None
    except (OSError, EOFError, zipfile.BadZipFile, wave.Error) as error:
        raise InputError(
            f"data file {path}",
            "is a zip file of WAV recordings, 8 kHz, one channel, 16 bits",
            error,
            "download the original file again",
        ) from None
    if not found:
        raise InputError(
            f"data file {path}",
            "holds recordings DIGIT_SPEAKER_NUMBER.wav",
            "none",
            "download the original file again",
        )
    return found
