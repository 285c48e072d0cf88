#!/usr/bin/env bash
# Verifies one webhook with openssl: its body, in a file as it came, and its headers.
#
#     verify.sh whsec_... BODY_FILE WEBHOOK_ID WEBHOOK_TIMESTAMP WEBHOOK_SIGNATURE
#     verify.sh whsec_... BODY_FILE X_WEBHOOK_SIGNATURE
#
# Exits with 0 if it is genuine, else with 1. TOLERANCE_S=999999999 lets an old one pass, too.
#
# By hand only: openssl's arguments can be read by other users of the machine while it runs.
set -euo pipefail

secret=${1:-${WEBHOOK_SECRET-}}
if [[ -z $secret || ($# != 3 && $# != 5) ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 1
fi

wrong() { echo "signature WRONG"; exit 1; }
hex() { od -An -v -tx1 | tr -d ' \n'; }

if (($# == 5)); then
  body=$2 id=$3 timestamp=$4 given=$5
  [[ $timestamp =~ ^[0-9]{1,12}$ ]] || wrong
  age_s=$(($(date +%s) - 10#$timestamp))
  ((${age_s#-} <= ${TOLERANCE_S:-300})) || wrong
  key=$(printf %s "${secret#whsec_}" | openssl base64 -d -A | hex)
  signature=$({ printf %s.%s. "$id" "$timestamp"; cat "$body"; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
  [[ " $given " == *" v1,$signature "* ]] || wrong # during a rotation several are given
else
  body=$2 given=$3
  signature=$(openssl dgst -sha256 -hmac "$secret" -binary <"$body" | hex)
  [[ $given == "$signature" ]] || wrong
fi
echo "signature verified"
