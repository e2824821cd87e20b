// Everything that it declares for device code is known without a header.
#pragma once
