# The rows of tests/access_oracle.rs, part 2 of 4.
. "$PAYLOAD/guest/oracle.sh"
rows 2/4
finish
