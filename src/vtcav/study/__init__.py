"""A study: one file that describes a whole run, and the run.

`yaml_file` keeps the lines, `reader` checks keys and values, `study` holds the result; `prepare`,
`checkpoints` and `run` carry it out, `summary_table` puts all results in one table, and `template`
writes a study file from a folder.
"""

from vtcav.study.run import run_study
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError

__all__ = ["Study", "StudyError", "run_study"]
