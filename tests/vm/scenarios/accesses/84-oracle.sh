# The rows of tests/access_oracle.rs, part 4 of 4.
. "$PAYLOAD/guest/oracle.sh"
rows 4/4
finish
