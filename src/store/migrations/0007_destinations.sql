-- Which version of the destinations' file a member has, as a digest, and why a later one was refused. None without a file.
alter table member add column destinations text;
alter table member add column destinations_refused text;
