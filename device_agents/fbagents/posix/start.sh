# Ends an agent that a broken connection left behind, whose number is in the file $1; exports variables up to --, and
# stays beside the new agent to tell how it ends.
umask 077
pid=$1; shift
if [ -s "$pid" ]; then
  old=$(cat "$pid")
  command=$({ tr '\0' ' ' <"/proc/$old/cmdline" || ps -o args= -p "$old"; } 2>/dev/null)
  case $command in *"${pid%/*}"*) kill -KILL "$old" ;; esac
  rm -f -- "$pid"
fi
unset LD_PRELOAD LD_LIBRARY_PATH
while [ "$1" != -- ]; do export "$1"; shift; done
shift
exec 3<&0
"$@" <&3 3<&- &
echo $! >"$pid"
wait $!
