"""Claims on folders: what is there already is named in words."""

import pytest

from vtcav.errors import ExplanationError
from vtcav.files.claim import claim


def test_a_folder_of_another_kind_of_run_says_which(tmp_path):
    """What differs in detail between a study and a class tells nobody anything."""
    claim(tmp_path / "run.json", {"kind": "study", "layers": ["a"]})
    with pytest.raises(ExplanationError) as caught:
        claim(tmp_path / "run.json", {"kind": "explain_class", "layers": [{"name": "a"}]})
    assert str(caught.value) == (
        f"the folder {str(tmp_path)!r} holds the run of a study, which is not continued by the "
        "explanation of a class; choose another folder, or delete this one"
    )
    claim(tmp_path / "run.json", {"kind": "study", "layers": ["a"]})
