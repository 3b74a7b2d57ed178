-- Why the last attempt on an event was not sent, and since when none has been, where a person has to know: there is no token
-- for its destination, say. None of an event whose last attempt was sent, and of almost all others.
alter table open_event add column withheld text;
alter table open_event add column withheld_since timestamptz;
-- Entries of a member's destinations' file with the least `connections`, and these: each worker has one request at a time at
-- least, so that many workers together have more. None without such a file.
alter table member add column limited text[];
alter table member add column limits integer[];
