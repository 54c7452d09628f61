-- clock: the time where a member's keys are.
--
-- KEYS[1] presence:{member}  hash; names the slot, is not read
--
-- Returns {seconds, microseconds}.
return redis.call('TIME')
