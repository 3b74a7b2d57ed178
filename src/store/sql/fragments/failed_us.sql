-- When a dead letter's event became FAILED, in microseconds since 1970: this names one of its failures.
(extract(epoch from failed_at) * 1000000)::int8
