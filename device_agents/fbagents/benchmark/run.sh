# Runs a program for $1 s at most, on the cores of the mask $3 if there is one, with the variables up to --. It ends what a
# broken connection left behind, whose number is in the file $2 if there is one, and prints to which cores the process is
# bound that becomes the program.
umask 077
deadline=$1; pid=$2; mask=$3; shift 3
unset LD_PRELOAD LD_LIBRARY_PATH
while [ "$1" != -- ]; do export "$1"; shift; done
shift
if [ -n "$pid" ] && [ -s "$pid" ]; then
  old=$(cat "$pid")
  case $(tr '\0' ' ' 2>/dev/null <"/proc/$old/cmdline") in *"${pid%.pid}"*) kill -KILL "$old" ;; esac
  rm -f -- "$pid"
fi
if [ -n "$mask" ]; then
  command -v taskset >/dev/null || exit 125
  taskset "$mask" sh -c '
    sed -n "s/^Cpus_allowed_list:[[:space:]]*/fbnet-lab cores /p" "/proc/$$/status"
    exec "$@"' sh "$@" </dev/null 2>&1 &
else
  "$@" </dev/null 2>&1 &
fi
run=$!
[ -z "$pid" ] || echo "$run" >"$pid"
sleep=$(
  (
    sleep "$deadline" </dev/null >/dev/null 2>&1 &
    echo "$!"
    exec </dev/null >/dev/null 2>&1
    wait "$!" && kill -KILL "$run"
  ) &
)
wait "$run"; code=$?
kill "$sleep" 2>/dev/null
exit "$code"
