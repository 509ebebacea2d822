# What guard.sh and restore.sh share. $1 is where the files' names begin. Values are digits or null, checked before they
# are written anywhere.
umask 077
set -f
prefix=$1; shift
is_value() { case $1 in null|[0-9]|[0-9][0-9]) ;; *) return 1 ;; esac; }
is_guardian() {
  [ "$1" != $$ ] && case $({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) in *"$prefix"*) ;; *) return 1 ;; esac
}
end_guardian() {
  other=$(cat "$prefix.pid" 2>/dev/null)
  case $other in ''|*[!0-9]*) return ;; esac
  tries=0
  while is_guardian "$other" && [ $tries -lt 50 ]; do
    [ $tries -gt 0 ] || kill "$other"
    sleep 0.2
    tries=$((tries + 1))
  done
}
record() { echo "$2" >"$prefix.$1.new" && mv -f "$prefix.$1.new" "$prefix.$1"; }
read_stay_on() { settings get global stay_on_while_plugged_in 2>&1; }
write_stay_on() {
  if [ "$1" = null ]; then settings delete global stay_on_while_plugged_in
  else settings put global stay_on_while_plugged_in "$1"; fi 2>&1
}
write_fixed_performance() { cmd power set-fixed-performance-mode-enabled "$1" 2>&1; }
restore() {
  failed=
  if [ -f "$prefix.stay_on" ]; then
    old=$(cat "$prefix.stay_on")
    if is_value "$old" && { write_stay_on "$old" >/dev/null; [ "$(read_stay_on)" = "$old" ]; }
    then rm -f "$prefix.stay_on"; else failed=yes; fi
  fi
  if [ -f "$prefix.fixed_performance" ]; then
    if write_fixed_performance false >/dev/null; then rm -f "$prefix.fixed_performance"; else failed=yes; fi
  fi
  rm -f "$prefix.pid"
  [ -z "$failed" ]
}
