-- Whether the failure at $2 (in microseconds since 1970, or null for any) is the last one of the event $1.
select
  $2::int8 is null
    or exists (
      select from dead_letter
      where event_id = $1
        and {failed_us} = $2
    )
