"""A study: one file that describes a whole run, and the run.

`yaml_file` keeps the lines, `reader` knows the keys, `study` is what the file says; `prepare`,
`checkpoints` and `run` carry it out, `summary_table` has everything in one table, and `template`
writes a study from a folder.
"""

from vtcav.study.run import run_study
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError

__all__ = ["Study", "StudyError", "run_study"]
