"""The running daemon around the rooms: configuration, logging, queue and workers, REST, schedules."""
