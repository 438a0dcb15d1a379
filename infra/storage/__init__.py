"""The store under a run: one interface, two doors (a local folder, a prefix of an S3 bucket)."""

from infra.storage.local import LocalStorage
from infra.storage.open import open_input, open_storage
from infra.storage.protocol import TEMPORARY_PREFIX, Storage
