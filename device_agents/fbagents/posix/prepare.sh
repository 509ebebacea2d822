# Makes the folder $2 of a run in $1, removes those that killed runs left a week ago, and tells the system.
umask 077
mkdir -p -- "$1" || exit
find "$1" -maxdepth 1 -type d -name 'fbnet-lab-????????????????' -mtime +6 -exec rm -r -- {} +
[ -d "$2" ] || mkdir -m 700 -- "$2" || exit
uname -s; uname -m
