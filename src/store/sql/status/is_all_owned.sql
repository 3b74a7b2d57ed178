-- Whether every partition has an owner that is there.
select
  count(*) > 0
    and bool_and(
      {is_present}
      and m.id is not null
    )
from partition p
left join member m on m.id = p.owner
