#!/usr/bin/env bash
# The declared versions are tested versions: the lowest that pyproject.toml names, and the newest that the index has.
#
#   tests/versions.sh                   the tests that tests/versions.txt lists, in both environments
#   tests/versions.sh newest --all      every test, in one of them (`lowest`, `newest`)
#   TORCH="torch==2.14.0" tests/versions.sh        another torch; by default the one of constraints.txt, which costs no gigabytes
#
# Environments are kept between calls in TUNEWRIGHT_ENVIRONMENTS (default: tunewright-versions in the user's cache folder).
set -euo pipefail
cd "$(dirname "$0")/.."
root=${TUNEWRIGHT_ENVIRONMENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/tunewright-versions}
torch=${TORCH:-$(grep '^torch==' constraints.txt)}
python=${PYTHON:-python3}
tests=$(grep -v '^#' tests/versions.txt)
which="lowest newest"
for word in "$@"; do
  case $word in
    lowest | newest) which=$word ;;
    --all) tests=tests ;;
    *) echo "usage: tests/versions.sh [lowest|newest] [--all]" >&2; exit 2 ;;
  esac
done

# install NAME: an environment with its requirements; the newest is brought up to date at every call.
install() {
  local environment=$root/$1 wanted
  wanted=$("$python" tests/versions.py "$1")
  if [ "$(cat "$environment/wanted" 2>/dev/null)" != "$torch $wanted" ]; then
    rm -rf "$environment"
    "$python" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet "$torch"
  elif [ "$1" = lowest ]; then
    return
  fi
  # shellcheck disable=SC2086  # one word for each requirement
  "$environment/bin/python" -m pip install --quiet --upgrade "$torch" $wanted
  echo "$torch $wanted" >"$environment/wanted"
}

failed=0
for name in $which; do
  echo "== $name versions"
  install "$name"
  run=$root/$name/bin/python
  "$run" -m pip list 2>/dev/null | grep -E '^(torch|transformers|tokenizers|peft|accelerate|datasets|numpy|pyarrow|pydantic|typer) ' | tr -s ' ' | paste -sd, -
  # shellcheck disable=SC2086  # one word for each file
  PYTHONPATH=$PWD/src OMP_NUM_THREADS=1 "$run" -m pytest --numprocesses 2 --dist worksteal -m "not slow" -p no:cacheprovider $tests || failed=1
  if [ "$name" = newest ]; then PYTHONPATH=$PWD/src "$run" tests/versions.py tested || failed=1; fi
done
exit $failed
