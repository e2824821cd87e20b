import sys
from pathlib import Path

# The fakes are a module of their own: a process that gets killed in a test imports them too.
sys.path.insert(0, str(Path(__file__).parent))
