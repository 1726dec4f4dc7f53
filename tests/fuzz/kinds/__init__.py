"""The kinds of things that are tried, one module each."""

from tests.fuzz.kinds.banks import Banks
from tests.fuzz.kinds.caches import Caches
from tests.fuzz.kinds.checkpoints import Checkpoints
from tests.fuzz.kinds.corrections import Corrections
from tests.fuzz.kinds.databases import Databases
from tests.fuzz.kinds.networks import Archives, Folders, Hdf5
from tests.fuzz.kinds.pictures import Pictures
from tests.fuzz.kinds.requests import Requests
from tests.fuzz.kinds.results import Results
from tests.fuzz.kinds.runs import Runs
from tests.fuzz.kinds.scans import Scans
from tests.fuzz.kinds.series import SeriesFolders
from tests.fuzz.kinds.sources import Sources
from tests.fuzz.kinds.studies import Studies
from tests.fuzz.kinds.tables import Tables

_ALL = (
    *(Banks, Results, Runs, Caches, Studies, Archives, Hdf5, Checkpoints, Folders, Pictures),
    *(Tables, Requests, Scans, SeriesFolders, Sources, Databases, Corrections),
)
KINDS = {kind.name: kind for kind in _ALL}
