-- What a program has to know to work here. The least migration is raised by a migration that breaks older programs, in
-- its own file: `update cluster set least_schema = N`. A program that knows fewer than N does not start.
alter table cluster add column least_schema bigint not null default 0;
-- The version of exchanges and queues, as the program declares them.
alter table cluster add column topology integer not null default 1;
