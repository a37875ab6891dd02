"""Log-mel features, and recordings from a zip file."""

from __future__ import annotations

import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from drawbar.gen.errors import InputError
from drawbar.sw.compress.data import DIRECTORY_VARIABLE
from drawbar.sw.compress.speech import (
    BANDS,
    DECADES,
    FEATURES,
    FRAME,
    HIGHEST,
    HOP,
    LOWEST,
    RATE,
    STEPS,
    load_speech,
    log_mel,
)


def tone(frequency: float, samples: int = RATE // 4) -> np.ndarray:
    return np.round(8000 * np.sin(2 * np.pi * frequency / RATE * np.arange(samples))).astype("<i2")


def sound(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(samples.tobytes())
    return file.getvalue()


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    (folder / "fsdd").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "fsdd" / "recordings.zip", "w") as out:
        for name, data in files.items():
            out.writestr(name, data)
    return folder


@pytest.mark.parametrize("frequency", [200, 700, 1500, 3500])
def test_a_tone_is_loudest_in_its_band(frequency: float) -> None:
    x = log_mel(tone(frequency))
    assert x.shape == (STEPS, FEATURES)
    assert x.dtype == np.float32
    frames = x.reshape(-1, BANDS)
    frames = frames[frames.any(axis=1)]
    assert len(frames) == (RATE // 4 - FRAME) // HOP + 1
    low, high, here = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST, frequency))
    band = (here - low) / (high - low) * (BANDS + 1) - 1
    assert np.abs(frames.argmax(axis=1) - band).max() < 1
    assert 0.95 < frames.max() <= 1
    assert frames.min() >= 0


def test_loudness_does_not_matter_and_powers_of_ten_are_even() -> None:
    samples = tone(700).astype(float)
    np.testing.assert_allclose(log_mel(samples), log_mel(samples / 50), atol=1e-6)
    # Ten times fainter is a hundred times less power: two of the decades.
    both = np.concatenate([samples, samples / 10])
    x = log_mel(both).reshape(-1, BANDS)
    first, last = x[x.any(axis=1)][2].max(), x[-3].max()
    assert first - last == pytest.approx(2 / DECADES, abs=1e-3)


def test_what_is_short_long_or_silent() -> None:
    assert not log_mel(np.zeros(4000)).any()
    assert not log_mel(np.zeros(0)).any()
    assert log_mel(tone(700, 100)).any()
    long = log_mel(np.concatenate([tone(3000, 2 * RATE), tone(300, RATE // 4)]))
    assert long[0].any()
    # Its end is kept: short ones are preceded by silence.
    np.testing.assert_array_equal(log_mel(tone(700))[0], np.zeros(FEATURES))
    assert long[-1].reshape(-1, BANDS)[-1].argmax() < 10 < long[0].reshape(-1, BANDS)[0].argmax()


def test_recordings_by_their_names(tmp_path: Path) -> None:
    names = ["3_theo_0", "3_theo_4", "3_theo_5", "9_lucas_49", "0_lucas_12"]
    files = {f"recordings/{name}.wav": sound(tone(300 + 50 * n)) for n, name in enumerate(names)}
    found = load_speech(archive(tmp_path, {**files, "README.md": b"!"}), verify=False)
    assert found.train_x.shape == (3, STEPS * FEATURES)
    assert found.test_y.tolist() == [3, 3]
    assert sorted(found.train_y.tolist()) == [0, 3, 9]
    with pytest.raises(InputError, match="has the checksum"):
        load_speech(tmp_path)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"notes.txt": b""}, "found none"),
        ({"recordings/1_theo_0.wav": b"RIFF"}, "WAV recordings, 8 kHz"),
        ({"recordings/1_theo_0.wav": sound(tone(300), 16_000)}, r"\(16000, 1, 2\)"),
    ],
)
def test_bad_recordings(tmp_path: Path, files: dict[str, bytes], match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_speech(archive(tmp_path, files))


def test_missing_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    with pytest.raises(InputError, match=DIRECTORY_VARIABLE):
        load_speech()
    with pytest.raises(InputError, match="no such file"):
        load_speech(tmp_path)
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "recordings.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="zip"):
        load_speech(tmp_path)
