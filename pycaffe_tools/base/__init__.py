"""What every other folder uses: errors, files, progress, command lines, typed ranges, the machine."""
