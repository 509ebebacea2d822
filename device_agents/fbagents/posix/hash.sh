# SHA-256 of stdin, for the scripts that this one is put before. OpenSSL has the processor's own; the sha256sum of a
# Linux board may take ten times as long.
hash() {
  if command -v openssl >/dev/null; then openssl dgst -sha256 -r
  elif command -v sha256sum >/dev/null; then sha256sum
  else shasum -a 256; fi
}
has_hash() { case $(hash <"$1") in "$2 "*) ;; *) false ;; esac }
