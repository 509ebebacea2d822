# Records each old value, changes it, and waits for a line, the end of its input or a signal to put all back. A value that
# was recorded before counts while the setting is still as a guardian left it, so that one that was killed or a restart
# of the phone loses nothing. The mode of fixed performance cannot be read; it is off unless somebody switched it on since
# the phone started.
change_stay_on() {
  command -v settings >/dev/null || { echo stay_on absent; return; }
  now=$(read_stay_on)
  is_value "$now" || { echo stay_on denied $now; return; }
  old=
  if [ "$now" = 7 ] && [ -f "$prefix.stay_on" ]; then old=$(cat "$prefix.stay_on"); fi
  is_value "$old" || old=$now
  words=$(record stay_on "$old" 2>&1) || { echo stay_on denied $words; return; }
  words=$(write_stay_on 7)
  if [ "$(read_stay_on)" = 7 ]; then echo "stay_on set $old"
  else rm -f "$prefix.stay_on"; echo stay_on denied $words; fi
  input keyevent KEYCODE_WAKEUP >/dev/null 2>&1
}
change_fixed_performance() {
  words=$(record fixed_performance false 2>&1) || { echo fixed_performance denied $words; return; }
  if words=$(write_fixed_performance true); then echo fixed_performance set false
  else rm -f "$prefix.fixed_performance"; echo fixed_performance denied $words; fi
}
trap '' PIPE
exec 3<&0 </dev/null
head -n 1 <&3 >/dev/null 2>&1 &
reader=$!
trap 'kill $reader 2>/dev/null' HUP INT TERM
end_guardian
echo $$ >"$prefix.pid"
for name; do "change_$name"; done
echo ready
wait $reader
wait $reader 2>/dev/null
trap '' HUP INT TERM
exec 3<&-
if restore; then echo restored; else echo failed; fi
