-- FAILED events within the retention time, and how many of them are not published.
select
  count(*),
  count(*) filter (where published_at is null)
from dead_letter
