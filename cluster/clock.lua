-- clock: the time where a member's keys are.
--
-- KEYS[1] presence:{member}  hash; names the slot, is not read
--
-- When Redis is full: goes on, writes nothing.
-- Returns {seconds, microseconds}.
return redis.call('TIME')
