"""Wake-ups between services. A wake-up is a hint: polling always runs, so a lost one costs a poll interval."""
