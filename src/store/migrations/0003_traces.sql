-- The W3C traceparent of the span under which an event was taken in, if its trace is sampled: another worker goes on below it.
alter table event add column trace text;
