. "$PAYLOAD/guest/itself.sh"
