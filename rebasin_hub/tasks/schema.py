"""The JSON Schema of task files.

`python -m rebasin_hub.tasks.schema > schemas/task.schema.json` writes it anew.
"""

import sys

from rebasin_hub.tasks.taskfile import schema_text

if __name__ == "__main__":
    sys.stdout.write(schema_text())
